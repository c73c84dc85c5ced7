using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>Attention masks, created once per batch and shared by all heads and by all layers with the same window.</summary>
internal static class AttentionMask
{
    // Positions are whole numbers.
    private static readonly Scalar s_one = 1;
    private static readonly Scalar s_zero = 0;

    // Row strides of a bias are a multiple of this; otherwise torch copies it for each layer.
    private const long BiasAlignment = 16;

    /// <summary>
    /// The attention mask: true where a query may attend to a key. Later tokens, other documents, padding, and keys outside the sliding
    /// window are masked. Null for plain causal attention (or, for a single token after a cache, attention to all keys).
    /// </summary>
    /// <param name="input">The batch.</param>
    /// <param name="window">Sliding window: number of tokens that a token attends to, including itself; null for all.</param>
    /// <param name="chunk">Chunk size: a token attends only to tokens of its own chunk of positions, and the window is as large; null for all.</param>
    /// <returns>The mask, [batch or 1, 1, queries, keys], bool, or null. Its first key is <see cref="FirstKey"/>.</returns>
    internal static Tensor? For(ModelInput input, int? window, int? chunk = null)
    {
        if (input.IsBidirectional)
        {
            return BothWays(input, window ?? chunk);
        }

        if (chunk is { } size && (input.Cache is not null || input.Documents is not null || input.InputIds.size(1) > size))
        {
            return InChunks(input, size);
        }

        var queries = input.InputIds.size(1);
        var past = input.Cache?.Held ?? 0;
        var first = FirstKey(input, window);
        if (input.Documents is null)
        {
            var plain = past == 0 && (window is null || window >= queries);
            return plain || input.IsSingleStep ? null : Band(queries, past, first, window, input.InputIds.device);
        }

        using var scope = NewDisposeScope();
        var own = input.Documents.narrow(1, past, queries);
        var keys = input.Documents.narrow(1, first, past + queries - first);
        var same = own.unsqueeze(2).eq(keys.unsqueeze(1)).unsqueeze(1);
        if (input.VirtualTokens > 0 || input.SharesBeginning)
        {
            same = same.logical_or(keys.lt(s_zero).unsqueeze(1).unsqueeze(1));
        }

        // A padding row that attends to nothing would have a softmax of 0/0: padding attends to padding, and nothing else does.
        return same.logical_and(Band(queries, past, first, window, keys.device)).MoveToOuterDisposeScope();
    }

    // All tokens of the same document, within a distance of the window, as transformers with is_causal: false.
    private static Tensor BothWays(ModelInput input, int? window)
    {
        using var scope = NewDisposeScope();
        var (documents, tokens) = (input.Documents ?? throw new InvalidOperationException("attention that looks both ways needs documents, which hide padding."), input.Documents.size(1));
        var same = documents.unsqueeze(2).eq(documents.unsqueeze(1));
        if (input.VirtualTokens > 0)
        {
            same = same.logical_or(documents.lt(s_zero).unsqueeze(1));
        }

        if (window is { } width)
        {
            same = same.logical_and(ones([tokens, tokens], @bool, documents.device).tril(width).triu(-width));
        }

        return same.unsqueeze(1).contiguous().MoveToOuterDisposeScope();
    }

    // As with a window of the chunk's size, and only between tokens of the same chunk.
    private static Tensor InChunks(ModelInput input, int chunk)
    {
        using var scope = NewDisposeScope();
        var (queries, past, first) = (input.InputIds.size(1), input.Cache?.Held ?? 0, FirstKey(input, chunk));
        var own = input.PositionIds;

        // Each row of a cache is one text, whose positions count up to the last token.
        var keys = past == 0 ? own : own.narrow(1, queries - 1, 1).add(arange(first - (past + queries - 1), 1, int64, own.device), s_one);
        using Scalar size = chunk;
        Tensor Chunk(Tensor positions) => positions.div(size, RoundingMode.floor);
        var same = Chunk(own).unsqueeze(2).eq(Chunk(keys).unsqueeze(1)).unsqueeze(1);
        return same.logical_and((input.IsSingleStep ? null : For(input, chunk)) ?? Band(queries, past, first, chunk, own.device)).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// A mask for the fused kernels of GPUs: 0 where a query may attend, -inf elsewhere. The kernels would convert a bool mask at each call
    /// and store the result for backward, so it is converted once for all layers, with the row alignment that the kernels require.
    /// </summary>
    /// <param name="mask">The mask, [batch or 1, 1, queries, keys], bool.</param>
    /// <param name="dtype">Data type of the queries.</param>
    internal static Tensor ToBias(Tensor mask, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        using Scalar nowhere = double.NegativeInfinity;
        var (keys, shape) = (mask.size(3), mask.shape);
        var wide = zeros([shape[0], shape[1], shape[2], (keys + BiasAlignment - 1) / BiasAlignment * BiasAlignment], dtype, mask.device);
        return wide.narrow(3, 0, keys).masked_fill_(mask.logical_not(), nowhere).MoveToOuterDisposeScope();
    }

    /// <summary>The first key that a batch's first token attends to, which is the first that the cache still holds.</summary>
    internal static int FirstKey(ModelInput input, int? window) => Math.Max(0, (input.Cache?.Held ?? 0) - (window ?? int.MaxValue) + 1);

    // Causal, and within the window.
    private static Tensor Band(long queries, int past, int first, int? window, Device device)
    {
        using var scope = NewDisposeScope();
        var visible = ones([queries, past + queries - first], @bool, device).tril(past - first);
        if (window is { } width)
        {
            visible = visible.triu(past - first - width + 1);
        }

        return visible.unsqueeze(0).unsqueeze(0).MoveToOuterDisposeScope();
    }
}
