using OpenWeights.Tune.Layers.Projections;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks.Parts;

/// <summary>A long sum into few columns, as a low-rank update has.</summary>
public class NarrowProductPart : Part
{
    private Tensor _left = null!;
    private Tensor _right = null!;

    private long Rows => Size(StepTokens, 40);

    private long Columns => Size(16, 8);

    private long Depth => Size(InnerSize, 100);

    internal override double Work => 2.0 * Rows * Columns * Depth;

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Own() => [Products.Of(_left, _right)];

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Composition() => [_left.mm(_right)];

    // Computed in float32 whatever the model's dtype.
    private protected override void Prepare() => (_left, _right) = (Keep(randn([Rows, Depth])), Keep(randn([Depth, Columns])));
}
