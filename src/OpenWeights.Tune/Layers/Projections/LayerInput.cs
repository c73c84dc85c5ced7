using OpenWeights.Tune.Layers.FeedForward;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Projections;

/// <summary>
/// The input of linear layers, computed from tensors that are stored for backward in any case; backward recomputes it instead of storing
/// it.
/// </summary>
internal abstract class LayerInput
{
    /// <summary>The source tensors.</summary>
    internal abstract IReadOnlyList<Tensor> Sources { get; }

    /// <summary>Computes the input without autograd, and what else must be stored to recompute it. In the caller's dispose scope.</summary>
    internal abstract (Tensor Input, IReadOnlyList<Tensor> Kept) Make();

    /// <summary>Recomputes the input, in the caller's dispose scope.</summary>
    /// <param name="sources">The stored sources.</param>
    /// <param name="kept">What <see cref="Make"/> returned to be stored.</param>
    internal abstract Tensor Again(IReadOnlyList<Tensor> sources, IReadOnlyList<Tensor> kept);

    /// <summary>Gradient of each source, in the caller's dispose scope; null if not needed.</summary>
    /// <param name="sources">The stored sources.</param>
    /// <param name="kept">What <see cref="Make"/> returned to be stored.</param>
    /// <param name="gradient">Gradient of the input, contiguous; ownership is transferred, and it may be overwritten.</param>
    internal abstract IReadOnlyList<Tensor?> Backward(IReadOnlyList<Tensor> sources, IReadOnlyList<Tensor> kept, Tensor gradient);

    /// <summary>Whether backward needs the sources even if no layer needs its input.</summary>
    internal abstract bool NeedsSources { get; }
}

/// <summary>States used unchanged.</summary>
/// <param name="states">The states, [..., features].</param>
internal sealed class PlainInput(Tensor states) : LayerInput
{
    internal override IReadOnlyList<Tensor> Sources => [states];

    internal override bool NeedsSources => false;

    internal override (Tensor Input, IReadOnlyList<Tensor> Kept) Make() => (states.alias(), []);

    internal override Tensor Again(IReadOnlyList<Tensor> sources, IReadOnlyList<Tensor> kept) => sources[0];

    internal override IReadOnlyList<Tensor?> Backward(IReadOnlyList<Tensor> sources, IReadOnlyList<Tensor> kept, Tensor gradient) => [gradient.alias()];
}

/// <summary>Normalized states.</summary>
/// <param name="states">The states, [..., features].</param>
/// <param name="weight">Weight of the norm, [features].</param>
/// <param name="settings">Settings of the norm.</param>
internal sealed class NormedInput(Tensor states, Tensor weight, RmsNormSettings settings) : LayerInput
{
    private readonly bool _wantsWeight = weight.requires_grad;

    internal override IReadOnlyList<Tensor> Sources => [states, weight];

    internal override bool NeedsSources => true;

    internal override (Tensor Input, IReadOnlyList<Tensor> Kept) Make()
    {
        var (output, factors) = FusedRmsNorm.Forward(states, weight, settings);
        return (output, [factors]);
    }

    internal override Tensor Again(IReadOnlyList<Tensor> sources, IReadOnlyList<Tensor> kept) => FusedRmsNorm.Again(sources[0], sources[1], kept[0], settings);

    internal override IReadOnlyList<Tensor?> Backward(IReadOnlyList<Tensor> sources, IReadOnlyList<Tensor> kept, Tensor gradient)
    {
        var (input, scale) = FusedRmsNorm.Backward((sources[0], sources[1], kept[0]), gradient, settings, _wantsWeight);
        return [input, scale];
    }
}

/// <summary>A function of some tensors, cheap enough to be computed again in backward.</summary>
/// <param name="compute">Computes the input from the sources, by operators with a derivative.</param>
/// <param name="sources">The sources.</param>
internal sealed class ComputedInput(Func<IReadOnlyList<Tensor>, Tensor> compute, params IReadOnlyList<Tensor> sources) : LayerInput
{
    private readonly bool[] _wants = [.. sources.Select(static s => s.requires_grad)];

    internal override IReadOnlyList<Tensor> Sources => sources;

    internal override bool NeedsSources => true;

    internal override (Tensor Input, IReadOnlyList<Tensor> Kept) Make() => (Again(sources, []), []);

    internal override Tensor Again(IReadOnlyList<Tensor> sources, IReadOnlyList<Tensor> kept)
    {
        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        return compute(sources).MoveToOuterDisposeScope();
    }

    internal override IReadOnlyList<Tensor?> Backward(IReadOnlyList<Tensor> sources, IReadOnlyList<Tensor> kept, Tensor gradient)
    {
        using var scope = NewDisposeScope();
        using var recorded = enable_grad();
        var leaves = sources.Select((s, i) => s.detach().requires_grad_(_wants[i])).ToList();
        BackwardPass.Run([compute(leaves)], [gradient]);
        return [.. leaves.Select((leaf, i) => _wants[i] ? leaf.grad!.MoveToOuterDisposeScope() : null)];
    }
}

/// <summary>act(gate) · up.</summary>
/// <param name="gate">The gate, [..., features].</param>
/// <param name="up">The up projection, of the same shape.</param>
/// <param name="activation">The activation function.</param>
internal sealed class GatedInput(Tensor gate, Tensor up, Activation activation) : LayerInput
{
    internal override IReadOnlyList<Tensor> Sources => [gate, up];

    internal override bool NeedsSources => true;

    internal override (Tensor Input, IReadOnlyList<Tensor> Kept) Make() => (GatedActivation.Product(gate, up, activation), []);

    internal override Tensor Again(IReadOnlyList<Tensor> sources, IReadOnlyList<Tensor> kept) => GatedActivation.Product(sources[0], sources[1], activation);

    internal override IReadOnlyList<Tensor?> Backward(IReadOnlyList<Tensor> sources, IReadOnlyList<Tensor> kept, Tensor gradient)
    {
        var (gradGate, gradUp) = GatedActivation.InputGradients(sources[0], sources[1], activation, gradient, overwrites: true);
        return [gradGate, gradUp];
    }
}
