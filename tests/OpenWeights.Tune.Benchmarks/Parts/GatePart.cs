using OpenWeights.Tune.Layers.FeedForward;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks.Parts;

/// <summary>SwiGLU's silu(gate) x up, and its gradients.</summary>
public class GatePart : Part
{
    private Tensor _gate = null!;
    private Tensor _up = null!;
    private Tensor _weight = null!;

    private long Rows => Size(StepTokens, 30);

    private long Width => Size(InnerSize, 48);

    internal override string Unit => "GB/s";

    // Forward reads two and writes one, backward reads three and writes two.
    internal override double Work => 8.0 * Rows * Width * (DType == float32 ? 4 : 2);

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Own() => WithGradients(static leaves => GatedActivation.Of(leaves[0], leaves[1], Activation.Silu), _weight, _gate, _up);

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Composition() => WithGradients(static leaves => nn.functional.silu(leaves[0]).mul(leaves[1]), _weight, _gate, _up);

    private protected override void Prepare() => (_gate, _up, _weight) = (Random(Rows, Width), Random(Rows, Width), Random(Rows, Width));
}
