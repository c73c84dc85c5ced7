using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>Who may look at whom, made once for a batch and shared by all heads and by all layers that look equally far.</summary>
internal static class AttentionMask
{
    // Elements between two rows of a bias are a multiple of this; otherwise torch copies it for each layer.
    private const long BiasAlignment = 16;

    /// <summary>
    /// True where a query may look at a key: not at a later token, not at another document, not at padding, not at one that lies a whole
    /// window or more back. Null where plain causal attention (or, for a single token after a cache, all keys) is meant.
    /// </summary>
    /// <param name="input">The batch.</param>
    /// <param name="window">How many tokens a token may look back at, itself included; null for all.</param>
    /// <returns>[batch or 1, 1, queries, keys], bool, or null. The keys are those of <see cref="FirstKey"/> on.</returns>
    internal static Tensor? For(ModelInput input, int? window)
    {
        var queries = input.InputIds.size(1);
        var past = input.Cache?.Length ?? 0;
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

        // A row of padding would look at nothing, and its softmax would be 0/0: padding looks at padding, and nobody else does.
        return same.logical_and(Band(queries, past, first, window, keys.device)).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// A mask as the fused kernels of GPUs take it: 0 where a query may look, -inf elsewhere. They turn a bool mask into this at each call
    /// and keep it for their backward, so it is made once for all layers, in rows that begin where those kernels want them to.
    /// </summary>
    /// <param name="mask">[batch or 1, 1, queries, keys], bool.</param>
    /// <param name="dtype">The queries' dtype.</param>
    internal static Tensor ToBias(Tensor mask, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        using Scalar nowhere = double.NegativeInfinity;
        var (keys, shape) = (mask.size(3), mask.shape);
        var wide = zeros([shape[0], shape[1], shape[2], (keys + BiasAlignment - 1) / BiasAlignment * BiasAlignment], dtype, mask.device);
        return wide.narrow(3, 0, keys).masked_fill_(mask.logical_not(), nowhere).MoveToOuterDisposeScope();
    }

    /// <summary>The first key that a batch's first token can see, and so the first that the cache still holds.</summary>
    internal static int FirstKey(ModelInput input, int? window) => Math.Max(0, (input.Cache?.Length ?? 0) - (window ?? int.MaxValue) + 1);

    // Keys up to the query itself, and not a whole window back.
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
