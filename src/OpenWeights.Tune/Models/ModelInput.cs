using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>A batch as the decoder reads it. The caller owns its tensors.</summary>
public sealed record ModelInput
{
    /// <summary>Token ids, [batch, tokens], int64.</summary>
    public required Tensor InputIds { get; init; }

    /// <summary>Positions, [batch, tokens], int64; they restart at each packed document and count only real tokens after left padding.</summary>
    public required Tensor PositionIds { get; init; }

    /// <summary>The largest position.</summary>
    public required long LongestPosition { get; init; }

    /// <summary>
    /// The document of each key, [batch, keys], int64, with 0 for padding; null where each row is one document, padded at its end at
    /// most (then causal attention alone keeps padding out of sight).
    /// </summary>
    public Tensor? Documents { get; init; }

    /// <summary>
    /// The length of the document of each token, row by row, where documents are packed: rotary frequencies that depend on the length then
    /// do so document by document. Null where the longest position holds for the whole batch, as the reference takes it.
    /// </summary>
    public IReadOnlyList<long>? DocumentLengths { get; init; }

    /// <summary>What is remembered of earlier tokens, or null.</summary>
    public DecoderCache? Cache { get; init; }

    /// <summary>Where routers note their scores, or null.</summary>
    public RouterRecord? Routers { get; init; }

    /// <summary>Whether one token is read at the end of a cache in which nothing is padding.</summary>
    internal bool IsSingleStep => Cache is not null && Documents is null && InputIds.size(1) == 1;

    /// <summary>Rows of one document each, padded at their ends at most.</summary>
    /// <param name="inputIds">[batch, tokens], int64.</param>
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
