using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Projections;

/// <summary>Normalised states.</summary>
/// <param name="states">[..., features].</param>
/// <param name="weight">The norm's weight, [features].</param>
/// <param name="settings">How the norm computes.</param>
internal sealed class NormedInput(Tensor states, Tensor weight, NormSettings settings) : LayerInput
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
