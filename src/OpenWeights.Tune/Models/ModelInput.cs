using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>A batch of the decoder. The caller owns its tensors.</summary>
internal sealed record ModelInput
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
    /// The texts that the batch consists of, each with a cache of its own: they are its rows, of one token each, or follow each other in its only row. What
    /// depends on earlier tokens is computed for each by itself. Null where the batch has one cache or none; only without gradients.
    /// </summary>
    internal IReadOnlyList<ModelInput>? Texts { get; init; }

    /// <summary>
    /// For an adapter with invocation tokens, from which token of each row on it applies, counted from the first token of the cache; null for a row to
    /// which it does not apply, and null to look for the tokens in the batch.
    /// </summary>
    public IReadOnlyList<long?>? AdaptedFrom { get; init; }

    /// <summary>
    /// Name of each row's adapter, for a model whose adapters are active by row (AdapterSet.UseByRow); null for a row of the base model. Null if all rows
    /// compute alike. Only without gradients.
    /// </summary>
    public IReadOnlyList<string?>? Adapters { get; init; }

    /// <summary>Records router logits, or null.</summary>
    public RouterRecord? Routers { get; init; }

    /// <summary>Whether tokens attend to later ones of their document too; <see cref="Documents"/> then hides padding.</summary>
    internal bool IsBidirectional { get; init; }

    /// <summary>Number of virtual tokens ahead of the text, now or in the cache; they are document -1.</summary>
    internal int VirtualTokens { get; init; }

    /// <summary>Whether rows are a shared beginning, document -1, and several documents that go on from it and do not attend to each other.</summary>
    internal bool SharesBeginning { get; init; }

    /// <summary>Whether a single token follows a cache without padding.</summary>
    internal bool IsSingleStep => Cache is not null && Documents is null && InputIds.size(1) == 1;

    /// <summary>The batch with virtual tokens ahead of each text: before its first tokens, or before those of the cache. In the current dispose scope.</summary>
    /// <param name="count">Number of virtual tokens.</param>
    internal ModelInput WithVirtual(int count)
    {
        var (isFirst, device) = (Cache is not { Length: > 0 }, InputIds.device);
        using Scalar shift = count;
        using Scalar minus = -1;
        var (ids, positions) = (InputIds, PositionIds.add(shift));
        if (isFirst)
        {
            ids = cat([zeros([ids.size(0), count], int64, device), ids], 1);
            positions = cat([arange(count, int64, device).unsqueeze(0).expand(positions.size(0), count), positions], 1);
        }

        return this with
        {
            InputIds = ids,
            PositionIds = positions,
            LongestPosition = LongestPosition + count,
            Documents = Documents is null ? null : cat([zeros([Documents.size(0), count], int64, device).add(minus), Documents], 1),
            DocumentLengths = DocumentLengths is { } lengths && isFirst ? Lengths(lengths, count, (int)InputIds.size(0)) : DocumentLengths,
            VirtualTokens = count,
        };
    }

    // Virtual tokens count to each document, and have the length of the row's first.
    private static List<long> Lengths(IReadOnlyList<long> lengths, int count, int rows)
    {
        var width = lengths.Count / rows;
        return [.. Enumerable.Range(0, rows).SelectMany(row => Enumerable.Repeat(lengths[row * width], count).Concat(lengths.Skip(row * width).Take(width))).Select(l => l + count)];
    }

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
