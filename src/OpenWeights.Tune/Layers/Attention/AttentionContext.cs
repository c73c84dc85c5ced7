using OpenWeights.Tune.Layers.Experts;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>What a layer's attention needs to know of a forward pass: rotary tables, who may look at whom, and the cache.</summary>
public sealed class AttentionContext
{
    /// <summary>Rotary cosines, [batch or 1, 1, tokens, rotated dimensions / 2]; null where the layer has no positions.</summary>
    public Tensor? Cos { get; init; }

    /// <summary>Rotary sines, of the same shape.</summary>
    public Tensor? Sin { get; init; }

    /// <summary>
    /// True where a query (row) may look at a key (column), [batch or 1, 1, queries, keys], or, for the fused kernels of GPUs, 0 there and -inf
    /// elsewhere; null for plain causal attention.
    /// </summary>
    public Tensor? Mask { get; init; }

    /// <summary>Whether one query stands at the end of all keys, so that it may look at every one.</summary>
    public bool LooksAtAll { get; init; }

    /// <summary>How many tokens a token may look back at, itself included: what the cache keeps; null for all.</summary>
    public int? SlidingWindow { get; init; }

    /// <summary>Keys and values of earlier tokens, or null.</summary>
    public KeyValueCache? Cache { get; init; }

    /// <summary>Where attention notes what it gave, or finds it; null where it is neither kept nor there.</summary>
    internal SavedAttention? Saved { get; init; }

    /// <summary>Whether a layer runs for its gradients alone, so that its last product, which only its output needs, is left out.</summary>
    internal bool OnlyForGradients { get; init; }

    /// <summary>Where routers note their scores, or null.</summary>
    public RouterRecord? Routers { get; init; }
}

/// <summary>What a layer's attention gave in forward, so that a layer that is computed again need not compute it again.</summary>
/// <param name="given">What it gave, [batch, heads, queries, head_dim]; null while it is still to be noted.</param>
internal sealed class SavedAttention(Tensor? given)
{
    /// <summary>What attention gave; null until it is noted.</summary>
    internal Tensor? Given { get; private set; } = given;

    /// <summary>Notes what attention gave, beyond the dispose scope of the layer.</summary>
    internal void Note(Tensor mixed) => Given ??= mixed.detach().DetachFromDisposeScope();
}
