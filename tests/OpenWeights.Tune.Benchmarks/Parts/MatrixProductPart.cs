using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks.Parts;

/// <summary>The matrix product itself, which limits everything else: as a linear layer calls it, and as two matrices that lie in order.</summary>
public class MatrixProductPart : Part
{
    private Tensor _states = null!;
    private Tensor _weight = null!;
    private Tensor _turned = null!;

    private long Rows => Size(StepTokens, 40);

    private long Features => Size(HiddenSize, 24);

    internal override double Work => 2.0 * Rows * Features * Features;

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Own() => [nn.functional.linear(_states, _weight)];

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Composition() => [_states.mm(_turned)];

    private protected override void Prepare()
    {
        (_states, _weight) = (Random(Rows, Features), Random(Features, Features));
        _turned = Keep(_weight.t().contiguous());
    }
}
