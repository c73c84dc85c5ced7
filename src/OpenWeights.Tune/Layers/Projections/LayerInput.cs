using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.FeedForward;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Projections;

/// <summary>What linear layers read, made of tensors that are there anyway; backward makes it again instead of keeping it.</summary>
internal abstract class LayerInput
{
    /// <summary>The tensors that it is made of.</summary>
    internal abstract IReadOnlyList<Tensor> Sources { get; }

    /// <summary>The input, without a graph, and what else is kept to make it again. In the caller's dispose scope.</summary>
    internal abstract (Tensor Input, IReadOnlyList<Tensor> Kept) Make();

    /// <summary>The input again, in the caller's dispose scope.</summary>
    /// <param name="sources">The sources, as they were kept.</param>
    /// <param name="kept">What <see cref="Make"/> gave to be kept.</param>
    internal abstract Tensor Again(IReadOnlyList<Tensor> sources, IReadOnlyList<Tensor> kept);

    /// <summary>The gradient of each source, in the caller's dispose scope; null where none is wanted.</summary>
    /// <param name="sources">The sources, as they were kept.</param>
    /// <param name="kept">What <see cref="Make"/> gave to be kept.</param>
    /// <param name="gradient">The input's gradient, in one piece; it is given away, and may be written over.</param>
    internal abstract IReadOnlyList<Tensor?> Backward(IReadOnlyList<Tensor> sources, IReadOnlyList<Tensor> kept, Tensor gradient);

    /// <summary>Whether backward needs the sources although no layer asks for its input again.</summary>
    internal abstract bool NeedsSources { get; }
}

/// <summary>States as they are.</summary>
/// <param name="states">[..., features].</param>
internal sealed class PlainInput(Tensor states) : LayerInput
{
    internal override IReadOnlyList<Tensor> Sources => [states];

    internal override bool NeedsSources => false;

    internal override (Tensor Input, IReadOnlyList<Tensor> Kept) Make() => (states.alias(), []);

    internal override Tensor Again(IReadOnlyList<Tensor> sources, IReadOnlyList<Tensor> kept) => sources[0];

    internal override IReadOnlyList<Tensor?> Backward(IReadOnlyList<Tensor> sources, IReadOnlyList<Tensor> kept, Tensor gradient) => [gradient.alias()];
}

/// <summary>Normalised states.</summary>
/// <param name="states">[..., features].</param>
/// <param name="weight">The norm's weight, [features].</param>
/// <param name="settings">How the norm computes.</param>
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

/// <summary>act(gate) · up.</summary>
/// <param name="gate">[..., features].</param>
/// <param name="up">Of the gate's shape.</param>
/// <param name="activation">The activation.</param>
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
