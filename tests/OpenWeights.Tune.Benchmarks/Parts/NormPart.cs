using OpenWeights.Tune.Layers;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks.Parts;

/// <summary>RMSNorm and its gradients.</summary>
public class NormPart : Part
{
    private static readonly RmsNormSettings s_settings = new(1e-5, AddsOne: false, ScalesBeforeRounding: false);
    private Tensor _states = null!;
    private Tensor _scale = null!;
    private Tensor _weight = null!;

    private long Rows => Size(StepTokens, 40);

    private long Features => Size(HiddenSize, 24);

    /// <inheritdoc/>
    internal override string Unit => "GB/s";

    // Forward reads and writes the states, backward reads them and their gradient, and writes one.
    internal override double Work => 5.0 * Rows * Features * (DType == float32 ? 4 : 2);

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Own() => WithGradients(static leaves => FusedRmsNorm.Of(leaves[0], leaves[1], s_settings), _weight, _states, _scale);

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Composition() => WithGradients(
        static leaves =>
        {
            using Scalar epsilon = s_settings.Epsilon;
            using Scalar one = 1;
            var states = leaves[0].to(float32);
            return states.mul(states.mul(states).mean([-1], keepdim: true).add(epsilon, one).rsqrt()).to(leaves[0].dtype).mul(leaves[1]);
        },
        _weight, _states, _scale);

    private protected override void Prepare() => (_states, _scale, _weight) = (Random(Rows, Features), Random(Features), Random(Rows, Features));
}
