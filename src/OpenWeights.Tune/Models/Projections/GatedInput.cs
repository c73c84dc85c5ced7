using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Projections;

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
