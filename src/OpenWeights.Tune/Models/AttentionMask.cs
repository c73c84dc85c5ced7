using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>Who may look at whom, made once for a batch and shared by all heads and layers.</summary>
internal static class AttentionMask
{
    /// <summary>
    /// True where a query may look at a key: not at a later token, not at another document, not at padding. Null where plain causal
    /// attention (or, for a single token after a cache, all keys) is meant.
    /// </summary>
    /// <returns>[batch or 1, 1, queries, keys], bool, or null.</returns>
    internal static Tensor? For(ModelInput input)
    {
        var queries = input.InputIds.size(1);
        var past = input.Cache?.Length ?? 0;
        if (input.Documents is null)
        {
            return past == 0 || queries == 1 ? null : Causal(queries, past, input.InputIds.device);
        }

        using var scope = NewDisposeScope();
        var keys = input.Documents;
        var own = keys.narrow(1, past, queries);
        var same = own.unsqueeze(2).eq(keys.unsqueeze(1)).unsqueeze(1);

        // A row of padding would look at nothing, and its softmax would be 0/0: padding looks at padding, and nobody else does.
        return same.logical_and(Causal(queries, past, keys.device)).MoveToOuterDisposeScope();
    }

    private static Tensor Causal(long queries, long past, Device device)
    {
        using var scope = NewDisposeScope();
        return ones([queries, past + queries], @bool, device).tril(past).unsqueeze(0).unsqueeze(0).MoveToOuterDisposeScope();
    }
}
