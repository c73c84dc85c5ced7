using NUnit.Framework;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Projections;
using OpenWeights.Tune.Tests.Kernels;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Layers;

/// <summary>Layers that share an input, each with or without LoRA, beside autograd in float64.</summary>
public sealed class ProjectionGroupTests
{
    private const long In = 96;
    private const long Out = 80;
    private const double Scale = 0.5;

    // The rank of each layer's LoRA (0 for none) and what is trained of it: W, b, A, B.
    private static readonly (string Name, (long Rank, string Trained)[] Layers)[] s_groups =
    [
        ("LoRA on all layers", [(4, "AB"), (4, "AB"), (4, "AB")]),
        ("LoRA on the first and the last", [(3, "AB"), (0, "Wb"), (5, "ABb")]),
        ("A or B frozen", [(4, "B"), (4, "A")]),
        ("one layer trained in full", [(8, "ABWb")]),
        ("no LoRA", [(0, "Wb"), (0, "")]),
    ];

    [Test]
    public void Outputs_and_gradients_are_those_of_float64(
        [Range(0, 4)] int group, [Values(ScalarType.Float32, ScalarType.BFloat16)] ScalarType dtype, [Values] bool trainsInput, [Values(1, 3001)] int rows)
    {
        using var scope = NewDisposeScope();
        _ = random.manual_seed(3);
        var layers = Array.ConvertAll(s_groups[group].Layers, l => new Case(l.Rank, l.Trained, dtype));
        var (states, weights) = (randn([rows, In]).to(dtype), Array.ConvertAll(layers, _ => randn([rows, Out]).to(dtype)));
        var (input, exactInput) = (states.clone().requires_grad_(trainsInput), states.to(float64).clone().requires_grad_(trainsInput));
        var own = ProjectionGroup.Run(new PlainInput(input), Array.ConvertAll(layers, static l => l.Layer));
        var exact = Array.ConvertAll(layers, l => l.Exact(exactInput));
        Loss([.. own], weights).backward();
        Loss(exact, weights).backward();

        // Each result is rounded at most twice in the model's dtype.
        var bound = dtype == float32 ? 1e-5 : 2 * Composed.BFloat16Rounding;
        Assert.That(Composed.Difference([.. own.Select(static o => o.detach())], [.. exact.Select(static e => e.detach())]), Is.LessThan(bound), s_groups[group].Name);
        (string Name, Tensor Own, Tensor Exact)[] leaves = [("x", input, exactInput), .. layers.SelectMany(static l => l.Parameters)];
        foreach (var (name, given, reference) in leaves)
        {
            Assert.That(given.grad is null, Is.EqualTo(reference.grad is null), $"{s_groups[group].Name}: {name}");
            if (reference.grad is { } gradient)
            {
                Assert.That(Composed.Difference([given.grad!], [gradient]), Is.LessThan(bound), $"{s_groups[group].Name}: {name}");
            }
        }
    }

    [Test]
    public void Without_rows_all_gradients_are_zero()
    {
        using var scope = NewDisposeScope();
        Case[] layers = [new(4, "ABWb", float32), new(2, "AB", float32)];
        var states = zeros([2, 0, In]).requires_grad_();
        var outputs = ProjectionGroup.Run(new PlainInput(states), Array.ConvertAll(layers, static l => l.Layer));
        Assert.That(outputs.Select(static o => o.shape), Is.All.EqualTo(new[] { 2, 0, Out }));
        cat([.. outputs], -1).sum().backward();
        foreach (var (name, parameter, _) in layers.SelectMany(static l => l.Parameters).Where(static p => p.Own.requires_grad))
        {
            Assert.That(parameter.grad!.abs().max().ToDouble(), Is.Zero, name);
        }
    }

    private static Tensor Loss(Tensor[] outputs, Tensor[] weights) =>
        outputs.Zip(weights, static (output, weight) => output.mul(weight.to(output.dtype)).sum(float64)).Aggregate(static (sum, next) => sum.add(next));

    // A layer, and float64 copies of its parameters as leaves.
    private sealed class Case
    {
        private readonly Dictionary<string, Tensor> _exact = [];

        internal Case(long rank, string trained, ScalarType dtype)
        {
            var (weight, bias) = (Take("W", randn([Out, In]).to(dtype)), Take("b", randn([Out]).to(dtype)));
            Layer = new LinearLayer(weight, bias);
            if (rank > 0)
            {
                var adapter = new LoraLayer("layer", Layer, new LoraWeights(randn([rank, In]), randn([Out, rank])), Scale, 0);
                Layer.Adapter = adapter;
                adapter.A.requires_grad = trained.Contains('A', StringComparison.Ordinal);
                adapter.B.requires_grad = trained.Contains('B', StringComparison.Ordinal);
                Parameters.AddRange([("A", adapter.A, Copy("A", adapter.A)), ("B", adapter.B, Copy("B", adapter.B))]);
            }

            Parameter Take(string name, Tensor values)
            {
                var parameter = new Parameter(values, requires_grad: trained.Contains(name, StringComparison.Ordinal));
                Parameters.Add((name, parameter, Copy(name, parameter)));
                return parameter;
            }
        }

        internal LinearLayer Layer { get; }

        internal List<(string Name, Tensor Own, Tensor Exact)> Parameters { get; } = [];

        internal Tensor Exact(Tensor states)
        {
            using Scalar scale = Scale;
            var output = nn.functional.linear(states, _exact["W"], _exact["b"]);
            return _exact.TryGetValue("A", out var a) ? output.add(states.mm(a.t()).mm(_exact["B"].t()).mul(scale)) : output;
        }

        private Tensor Copy(string name, Parameter parameter) => _exact[name] = parameter.detach().to(float64).clone().requires_grad_(parameter.requires_grad);
    }
}
