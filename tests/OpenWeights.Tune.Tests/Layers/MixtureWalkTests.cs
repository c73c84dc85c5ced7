using NUnit.Framework;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Layers.FeedForward;
using OpenWeights.Tune.Models.Weights;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Layers;

/// <summary>A random walk over the settings of mixtures of experts, against their definition in plain float64 loops over tokens.</summary>
public sealed class MixtureWalkTests
{
    private const int Configs = 200;

    [Test]
    public void Outputs_and_slopes_are_those_of_the_definition()
    {
        for (var seed = 0; seed < Configs; seed++)
        {
            Compare(seed);
        }
    }

    private static void Compare(int seed)
    {
        var random = new Random(seed);
        var settings = Settings(random);
        using var source = new RandomWeightSource(seed, 0.5, float32, CPU);
        using var mixture = new MixtureOfExperts(settings, source, "mlp");
        using var scope = NewDisposeScope();
        using (no_grad())
        {
            foreach (var buffer in mixture.named_buffers())
            {
                _ = buffer.buffer.uniform_(0, 0.6);
            }

            foreach (var (_, parameter) in mixture.named_parameters().Where(static p => p.parameter.ndim < 3 && p.name.EndsWith("bias", StringComparison.Ordinal)))
            {
                _ = parameter.uniform_(-0.3, 0.3);
            }
        }

        var tokens = random.Next(1, 7);
        var states = Values(random, tokens * settings.Experts.HiddenSize);
        if (random.Next(2) == 0)
        {
            Adapt(mixture, random);
        }

        var input = tensor([.. states.Select(static v => (float)v)], [1, tokens, settings.Experts.HiddenSize]).requires_grad_();
        foreach (var parameter in mixture.parameters())
        {
            parameter.requires_grad = true;
        }

        var output = mixture.call(input, new LayerContext());
        var given = Values(random, states.Length);
        output.view(-1).mul(tensor([.. given.Select(static v => (float)v)])).sum().backward();
        var definition = new Float64Mixture(settings, mixture);
        var expected = definition.Of(states);
        var name = $"seed {seed}: {settings}";
        Assert.That(Largest(output, expected), Is.LessThan(2e-5 * Math.Max(1, expected.Max(Math.Abs))), name);

        // Along a direction the weighted sum of the outputs changes as the gradients say, unless another expert is chosen there.
        var chosen = definition.Chosen;
        const double Step = 1e-6;
        var direction = Values(random, states.Length);
        double Along(double sign)
        {
            var moved = definition.Of([.. states.Zip(direction, (s, d) => s + (sign * Step * d))]);
            return moved.Zip(given, static (m, g) => m * g).Sum();
        }

        var slope = (Along(1) - Along(-1)) / (2 * Step);
        if (definition.Chosen == chosen)
        {
            var actual = Doubles(input.grad!).Zip(direction, static (g, d) => g * d).Sum();
            Assert.That(actual, Is.EqualTo(slope).Within(2e-4 * Math.Max(1, Math.Abs(slope))), name);
        }

        foreach (var (parameter, at) in mixture.named_parameters().Select(static p => (p.parameter, p.name)))
        {
            var (own, gradient) = (Doubles(parameter), Doubles(parameter.grad ?? parameter.zeros_like()));
            var way = Values(random, own.Length);
            double Weighted(double sign)
            {
                var changed = new Float64Mixture(settings, mixture, at, [.. own.Zip(way, (o, w) => o + (sign * Step * w))]);
                var sum = changed.Of(states).Zip(given, static (m, g) => m * g).Sum();
                return changed.Chosen == chosen ? sum : double.NaN;
            }

            var change = (Weighted(1) - Weighted(-1)) / (2 * Step);
            var actual = gradient.Zip(way, static (g, w) => g * w).Sum();
            Assert.That(double.IsNaN(change) ? 0 : actual - change, Is.EqualTo(0).Within(3e-4 * Math.Max(1, Math.Abs(change))), $"{name} {at}");
        }
    }

    private static MixtureSettings Settings(Random random)
    {
        bool Coin() => random.Next(2) == 0;
        var groups = Coin() ? random.Next(2, 4) : 1;
        var experts = groups * random.Next(2, 4);
        var scoring = (RouterScoring)random.Next(4);
        var chosenGroups = random.Next(1, groups + 1);
        var perToken = scoring == RouterScoring.SparseMixer ? 2 : random.Next(1, (chosenGroups * experts / groups) + 1);
        var hasGate = random.Next(4) != 0;
        var isScored = scoring is RouterScoring.Softmax or RouterScoring.Sigmoid;
        var (hidden, shared) = (2 * random.Next(1, 5), random.Next(3));
        return new MixtureSettings
        {
            ExpertsPerToken = Math.Min(perToken, experts),
            ScalesInput = random.Next(4) == 0,
            Router = new RouterSettings
            {
                Name = Coin() ? "gate" : "router.gate",
                HasBias = Coin(),
                Scoring = scoring,
                InFloat32 = Coin(),
                Correction = isScored && Coin() ? "gate_correction" : null,
                HasCorrectionRow = Coin(),
                Groups = isScored && groups > 1 ? new ExpertGroups(groups, chosenGroups, random.Next(1, 3)) : null,
                Normalizes = Coin(),
                SumEpsilon = Coin() ? 0.01 : 0,
                LeastSum = Coin() ? 0.6 : 0,
                Scale = Coin() ? 1 : 1.7,
                ExpertScale = Coin() ? "scales" : null,
                TieTolerance = Coin() ? 0.4 : 0,
            },
            Experts = new ExpertSettings
            {
                Count = experts,
                CountSetting = "num_experts",
                HiddenSize = hidden,
                Inner = new Dimension("intermediate_size", random.Next(1, 6)),
                Activation = hasGate ? (Coin() ? Activation.Silu : Activation.GeluTanh) : Activation.ReluSquared,
                HasGate = hasGate,
                Clamp = hasGate && Coin() ? new ClampedGate(1.702, 0.7) : null,
                HasBias = Coin(),
                IsTransposed = Coin(),
                IsInterleaved = hasGate && Coin(),
                UpdatesAsStored = Coin(),
            },
            Shared = shared == 0 ? null : new GatedFeedForwardSettings { ModuleName = "shared", HiddenSize = hidden, Inner = new Dimension("shared", 3), Activation = Activation.Silu },
            SharedGate = shared == 2 ? "shared_gate" : null,
        };
    }

    private static void Adapt(MixtureOfExperts mixture, Random random)
    {
        foreach (var matrix in mixture.Experts.Matrices)
        {
            var ((input, output), rank) = (matrix.UpdateFeatures, random.Next(1, 4) * matrix.Count);
            Tensor Part(params long[] shape) => tensor([.. Values(random, (int)(shape[0] * shape[1])).Select(static v => (float)v)], shape);
            matrix.Updates.Add(new ExpertUpdate(Part(rank, input), Part(output, rank), 0.7f));
        }
    }

    private static double[] Values(Random random, int count) => [.. Enumerable.Range(0, count).Select(_ => (2 * random.NextDouble()) - 1)];

    private static double Largest(Tensor actual, double[] expected) => Doubles(actual).Zip(expected, static (a, e) => Math.Abs(a - e)).Max();

    private static double[] Doubles(Tensor values) => [.. values.detach().contiguous().to(float64).data<double>()];
}
