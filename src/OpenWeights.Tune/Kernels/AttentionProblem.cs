using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>What looks at what in <see cref="AttentionKernel"/>, and where it lies.</summary>
internal sealed unsafe class AttentionProblem
{
    private readonly Tensor? _mask;
    private readonly nint _shown;
    private readonly int? _window;

    /// <param name="query">[batch, heads, queries, head_dim].</param>
    /// <param name="key">[batch, key/value heads, keys, head_dim]; the last query stands at the last key.</param>
    /// <param name="value">Of the key's shape.</param>
    /// <param name="mask">True where a query may look at a key, [batch or 1, 1, queries, keys], nowhere ahead and somewhere for each query; null for plain causal attention.</param>
    /// <param name="scale">What the product of query and key is multiplied by.</param>
    /// <param name="cap">The limit c of c tanh(score / c), or null.</param>
    /// <param name="window">How many keys a query may look back at, itself included; null for all.</param>
    internal AttentionProblem(Tensor query, Tensor key, Tensor value, Tensor? mask, double scale, double? cap, int? window)
    {
        (Query, Key, Value, _mask, _window, Scale, Cap) = (query, key, value, mask, window, (float)scale, (float?)cap);
        (Batch, Heads, Queries, Width) = (query.size(0), query.size(1), (nint)query.size(2), (nint)query.size(3));
        (KeyValueHeads, Keys) = (key.size(1), (nint)key.size(2));
        _shown = mask is null ? 0 : (nint)CpuKernel.Pointer(mask);
    }

    internal Tensor Query { get; }

    internal Tensor Key { get; }

    internal Tensor Value { get; }

    internal float Scale { get; }

    /// <summary>What scores are kept within; null for no limit.</summary>
    internal float? Cap { get; }

    internal long Batch { get; }

    internal long Heads { get; }

    internal long KeyValueHeads { get; }

    /// <summary>How many query heads look at each key/value head.</summary>
    internal long Group => Heads / KeyValueHeads;

    internal nint Queries { get; }

    internal nint Keys { get; }

    /// <summary>head_dim.</summary>
    internal nint Width { get; }

    /// <summary>Whether attention can be computed so: float32 or bfloat16 on the CPU, the numbers of a head side by side.</summary>
    internal static bool Serves(Tensor query, Tensor key, Tensor value, Tensor? mask) =>
        HeadStates.Serves(query) && HeadStates.Serves(key) && HeadStates.Serves(value) && query.dtype == key.dtype && query.dtype == value.dtype
        && (mask is null || (mask.is_contiguous() && mask.dtype == ScalarType.Bool));

    /// <summary>Whether each of the keys may be looked at by a query of a row of the batch; null where all that it can see may.</summary>
    internal byte* Shown(long batch, nint query) =>
        _shown == 0 ? null : (byte*)_shown + (((_mask!.size(0) == 1 ? 0 : batch * Queries) + query) * Keys);

    /// <summary>The keys from the first to before the last that a query can see.</summary>
    internal (nint First, nint End) Seen(long batch, nint query)
    {
        var end = Keys - Queries + query + 1;
        var first = _window is { } window ? Math.Max(0, end - window) : 0;
        if (_shown != 0)
        {
            // Earlier documents of a packed row are not even scored.
            first += Math.Max(0, new ReadOnlySpan<byte>(Shown(batch, query) + first, (int)(end - first)).IndexOf((byte)1));
        }

        return (first, end);
    }
}

/// <summary>Where attention's results go: mixed values, or in backward gradients.</summary>
/// <param name="Queries">The mixed values, or the gradient of the queries.</param>
/// <param name="Keys">The gradient of the keys; of parts of the queries one behind the other along the batch.</param>
/// <param name="Values">The gradient of the values, like that of the keys.</param>
/// <param name="Given">The gradient of the mixed values.</param>
internal readonly record struct AttentionResults(HeadStates Queries, HeadStates Keys, HeadStates Values, HeadStates Given);
