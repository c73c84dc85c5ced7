using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>The inputs of <see cref="AttentionKernel"/> and their memory layout.</summary>
internal sealed unsafe class AttentionProblem
{
    private readonly Tensor? _mask;
    private readonly nint _shown;
    private readonly int? _window;

    /// <param name="query">Queries, [batch, heads, queries, head_dim].</param>
    /// <param name="key">Keys, [batch, key/value heads, keys, head_dim]; the last query is at the position of the last key.</param>
    /// <param name="value">Values, of the same shape as the keys.</param>
    /// <param name="mask">Attention mask, [batch or 1, 1, queries, keys]: true where a query may attend to a key; never a later key, and at
    /// least one key per query. Null for plain causal attention.</param>
    /// <param name="scale">Scaling factor of the scores.</param>
    /// <param name="cap">Soft cap c in c tanh(score / c), or null.</param>
    /// <param name="window">Sliding window: number of keys that a query attends to, including its own position; null for all.</param>
    /// <param name="sinks">Attention sink of each query head: the score of a key without a value; null for none.</param>
    internal AttentionProblem(Tensor query, Tensor key, Tensor value, Tensor? mask, double scale, double? cap, int? window, float[]? sinks = null)
    {
        Sinks = sinks;
        (Query, Key, Value, _mask, _window, Scale, Cap) = (query, key, value, mask, window, (float)scale, (float?)cap);
        (Batch, Heads, Queries, Width) = (query.size(0), query.size(1), (nint)query.size(2), (nint)query.size(3));
        (KeyValueHeads, Keys) = (key.size(1), (nint)key.size(2));
        _shown = mask is null ? 0 : (nint)CpuKernel.Pointer(mask);
    }

    internal Tensor Query { get; }

    internal Tensor Key { get; }

    internal Tensor Value { get; }

    internal float Scale { get; }

    /// <summary>Soft cap of the scores; null for none.</summary>
    internal float? Cap { get; }

    /// <summary>Attention sink of each query head; null for none.</summary>
    internal float[]? Sinks { get; }

    internal long Batch { get; }

    internal long Heads { get; }

    internal long KeyValueHeads { get; }

    /// <summary>Number of query heads per key/value head.</summary>
    internal long Group => Heads / KeyValueHeads;

    internal nint Queries { get; }

    internal nint Keys { get; }

    /// <summary>Head dimension.</summary>
    internal nint Width { get; }

    /// <summary>Whether the kernel supports the tensors: float32 or bfloat16 on the CPU, with contiguous heads.</summary>
    internal static bool Serves(Tensor query, Tensor key, Tensor value, Tensor? mask) =>
        HeadStates.Serves(query) && HeadStates.Serves(key) && HeadStates.Serves(value) && query.dtype == key.dtype && query.dtype == value.dtype
        && (mask is null || (mask.is_contiguous() && mask.dtype == ScalarType.Bool));

    /// <summary>The mask of one query, a byte per key (1 where it may attend); null if there is no mask.</summary>
    internal byte* Shown(long batch, nint query) =>
        _shown == 0 ? null : (byte*)_shown + (((_mask!.size(0) == 1 ? 0 : batch * Queries) + query) * Keys);

    /// <summary>The range of keys that a query can attend to, end exclusive.</summary>
    internal (nint First, nint End) Seen(long batch, nint query)
    {
        var end = Keys - Queries + query + 1;
        var first = _window is { } window ? Math.Max(0, end - window) : 0;
        if (_shown != 0)
        {
            // Earlier documents of a packed row are skipped entirely.
            first += Math.Max(0, new ReadOnlySpan<byte>(Shown(batch, query) + first, (int)(end - first)).IndexOf((byte)1));
        }

        return (first, end);
    }
}

/// <summary>Outputs of attention, or gradients in backward.</summary>
/// <param name="Queries">The attention output, or the gradient of the queries.</param>
/// <param name="Keys">Gradient of the keys; parts of the queries are stacked along the batch.</param>
/// <param name="Values">Gradient of the values, laid out as that of the keys.</param>
/// <param name="Given">Gradient of the attention output.</param>
internal readonly record struct AttentionResults(HeadStates Queries, HeadStates Keys, HeadStates Values, HeadStates Given);
