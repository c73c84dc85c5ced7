using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Projections;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks.Parts;

/// <summary>The query's, key's and value's frozen layers with LoRA of rank 16, and the gradients of their input and of every A and B.</summary>
public class ProjectionsPart : Part
{
    private const double Scale = 2;
    private const long Rank = 16;

    private readonly List<LinearLayer> _layers = [];
    private Tensor _states = null!;
    private Tensor _weight = null!;

    private long Rows => Size(StepTokens, 40);

    private long Features => Size(HiddenSize, 32);

    internal override double Work => 4.0 * Rows * Features * 2 * Features;

    private IEnumerable<LoraLayer> Adapters => _layers.Select(static l => (LoraLayer)l.Adapter!);

    /// <inheritdoc/>
    public override void Cleanup()
    {
        base.Cleanup();
        foreach (var adapter in Adapters)
        {
            adapter.Dispose();
        }

        _layers.ForEach(static l => l.Dispose());
        _layers.Clear();
    }

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Own() => WithUpdates(states => cat([.. ProjectionGroup.Run(new PlainInput(states), [.. _layers])], -1));

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Composition() => WithUpdates(states => cat([.. _layers.Select(layer => Composed(states, layer))], -1));

    private Tensor Composed(Tensor states, LinearLayer layer)
    {
        using TorchSharp.Scalar scale = Scale;
        var adapter = (LoraLayer)layer.Adapter!;
        var update = nn.functional.linear(nn.functional.linear(states.to(float32), adapter.A), adapter.B).mul(scale);
        return nn.functional.linear(states, layer.Weight).add(update.to(DType));
    }

    private List<Tensor> WithUpdates(Func<Tensor, Tensor> work)
    {
        Parameter[] trained = [.. Adapters.SelectMany(static a => new[] { a.A, a.B })];
        foreach (var parameter in trained)
        {
            parameter.grad = null;
        }

        var results = WithGradients(leaves => work(leaves[0]), _weight, _states);
        return [.. results, .. trained.Select(static p => p.grad!)];
    }

    private protected override void Prepare()
    {
        foreach (var width in new[] { Features, Features / 2, Features / 2 })
        {
            var weight = new Parameter(randn([width, Features]).to(DType), requires_grad: false);
            _ = weight.DetachFromDisposeScope();
            var layer = new LinearLayer(weight, null);
            var adapter = new LoraLayer("layer", layer, new LoraWeights(randn([Rank, Features]), randn([width, Rank])), Scale, 0);
            _ = adapter.A.DetachFromDisposeScope();
            _ = adapter.B.DetachFromDisposeScope();
            layer.Adapter = adapter;
            _layers.Add(layer);
        }

        (_states, _weight) = (Random(Rows, Features), Random(Rows, 2 * Features));
    }

}
