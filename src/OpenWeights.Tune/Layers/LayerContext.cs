using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Layers.Rope;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>What a forward pass tells a layer: rotary tables, who may look at whom, and what the layer remembers of earlier tokens.</summary>
public sealed record LayerContext
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

    /// <summary>What the layer's mixer remembers of earlier tokens, as its <see cref="TokenMixer.NewState"/> made it; null without a cache.</summary>
    public LayerState? State { get; init; }

    /// <summary>Where routers note their scores, or null.</summary>
    public RouterRecord? Routers { get; init; }

    /// <summary>Where attention notes what it gave, or finds it; null where it is neither kept nor there.</summary>
    internal SavedAttention? Saved { get; init; }

    /// <summary>Whether a layer runs for its gradients alone, so that its last product, which only its output needs, is left out.</summary>
    internal bool OnlyForGradients { get; init; }

    /// <summary>The same for a part whose output is computed with.</summary>
    internal LayerContext ForValues => OnlyForGradients ? this with { OnlyForGradients = false } : this;

    /// <summary>The tensors, which layers share: whoever runs a layer again later has to save them.</summary>
    internal IReadOnlyList<Tensor?> Tensors => [Cos, Sin, Mask];

    /// <summary>The same with other <see cref="Tensors"/>.</summary>
    /// <param name="tensors">As many, in the same order; empty for none.</param>
    internal LayerContext With(params IReadOnlyList<Tensor?> tensors) =>
        tensors.Count == 0 ? this with { Cos = null, Sin = null, Mask = null } : this with { Cos = tensors[0], Sin = tensors[1], Mask = tensors[2] };
}

/// <summary>What a mixer needs of a forward pass. Layers that need the same share it.</summary>
internal sealed record MixerNeeds
{
    /// <summary>A mixer that needs neither positions nor a mask.</summary>
    internal static MixerNeeds Nothing { get; } = new();

    /// <summary>Rotary position embedding; null for none.</summary>
    internal RopeConfig? Rope { get; init; }

    /// <summary>Width of the heads that are rotated.</summary>
    internal int RotaryWidth { get; init; }

    /// <summary>Whether tokens look at each other, so that a mask has to say at which.</summary>
    internal bool Looks { get; init; }

    /// <summary>How many tokens, itself included, a token may look back at; null for all.</summary>
    internal int? SlidingWindow { get; init; }

    /// <summary>Whether scores are limited, which no fused kernel of a GPU does.</summary>
    internal bool LimitsScores { get; init; }
}
