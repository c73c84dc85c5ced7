using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Projections;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks.Parts;

/// <summary>The query's, key's and value's frozen layers as one function, and the gradient of what they read.</summary>
public class ProjectionsPart : Part
{
    private readonly List<LinearLayer> _layers = [];
    private Tensor _states = null!;
    private Tensor _weight = null!;

    private long Rows => Size(2048, 40);

    private long Features => Size(512, 32);

    internal override double Work => 4.0 * Rows * Features * 2 * Features;

    /// <inheritdoc/>
    public override void Cleanup()
    {
        base.Cleanup();
        _layers.ForEach(static l => l.Dispose());
        _layers.Clear();
    }

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Own() => WithGradients(leaves => cat([.. ProjectionGroup.Run(new PlainInput(leaves[0]), [.. _layers])], -1), _weight, _states);

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Composition() => WithGradients(
        leaves => cat([.. _layers.Select(l => nn.functional.linear(leaves[0], l.Weight))], -1), _weight, _states);

    private protected override void Prepare()
    {
        foreach (var width in new[] { Features, Features / 2, Features / 2 })
        {
            var layer = new Parameter(randn([width, Features]).to(DType), requires_grad: false);
            _ = layer.DetachFromDisposeScope();
            _layers.Add(new LinearLayer(layer, null));
        }

        (_states, _weight) = (Random(Rows, Features), Random(Rows, 2 * Features));
    }
}
