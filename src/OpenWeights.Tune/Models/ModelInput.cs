using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>A batch of the decoder. The caller owns its tensors.</summary>
public sealed record ModelInput
{
    /// <summary>Token ids, [batch, tokens], int64.</summary>
    public required Tensor InputIds { get; init; }

    /// <summary>Positions, [batch, tokens], int64; they restart at each packed document and skip left padding.</summary>
    public required Tensor PositionIds { get; init; }

    /// <summary>The largest position.</summary>
    public required long LongestPosition { get; init; }

    /// <summary>
    /// Document of each key, [batch, keys], int64, with 0 for padding; null if each row is one document with at most right
    /// padding (which causal attention hides).
    /// </summary>
    public Tensor? Documents { get; init; }

    /// <summary>
    /// Document length of each token, row by row, for packed documents: rotary frequencies that depend on the length are then
    /// computed per document. Null if the longest position applies to the whole batch, as in the reference.
    /// </summary>
    public IReadOnlyList<long>? DocumentLengths { get; init; }

    /// <summary>Cached state of earlier tokens, or null.</summary>
    public DecoderCache? Cache { get; init; }

    /// <summary>
    /// For an adapter with invocation tokens, from which token of each row on it applies, counted from the first token of the cache; null for a row to
    /// which it does not apply, and null to look for the tokens in the batch.
    /// </summary>
    public IReadOnlyList<long?>? AdaptedFrom { get; init; }

    /// <summary>Records router logits, or null.</summary>
    public RouterRecord? Routers { get; init; }

    /// <summary>Whether a single token follows a cache without padding.</summary>
    internal bool IsSingleStep => Cache is not null && Documents is null && InputIds.size(1) == 1;

    /// <summary>Creates an input of rows with one document each and at most right padding.</summary>
    /// <param name="inputIds">Token ids, [batch, tokens], int64.</param>
    public static ModelInput Rows(Tensor inputIds)
    {
        ArgumentNullException.ThrowIfNull(inputIds);
        var tokens = inputIds.size(1);
        return new ModelInput
        {
            InputIds = inputIds,
            PositionIds = arange(tokens, int64, inputIds.device).unsqueeze(0),
            LongestPosition = tokens - 1,
        };
    }
}
