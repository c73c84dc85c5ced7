using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks.Parts;

/// <summary>A linear layer's output for one token, for which its weight is read from memory.</summary>
public class FewRowsPart : Part
{
    private Tensor _states = null!;
    private Tensor _weight = null!;

    private long Columns => Size(32_000, 40);

    private long Depth => Size(HiddenSize, 48);

    internal override double Work => (double)Columns * Depth * (Precision == "bfloat16" ? 2 : 4);

    internal override string Unit => "GB/s";

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Own() => [FewRowsProduct.Linear(_states, _weight, null)];

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Composition() => [nn.functional.linear(_states, _weight)];

    private protected override void Prepare() => (_states, _weight) = (Random(1, Depth), Random(Columns, Depth));
}
