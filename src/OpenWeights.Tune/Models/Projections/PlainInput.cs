using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Projections;

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
