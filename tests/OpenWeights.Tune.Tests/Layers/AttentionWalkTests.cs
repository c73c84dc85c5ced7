using NUnit.Framework;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Rope;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Layers;

/// <summary>Attention with many random settings against the formulas, written out in float64 loops over tokens and heads.</summary>
public sealed class AttentionWalkTests
{
    private const int Configurations = 200;

    [Test]
    public void Attention_with_any_settings_gives_what_the_formulas_give()
    {
        for (var seed = 0; seed < Configurations; seed++)
        {
            using var scope = NewDisposeScope();
            var (settings, tokens) = Draw(new Random(seed));
            using var attention = Make(settings, seed);
            using var nothing = no_grad();
            var states = randn([1, tokens, settings.HiddenSize]);
            var wanted = new Float64Attention(settings, name => Values(attention, name)).Run(Rows(states));
            var got = attention.call(states, Context(settings, 0, tokens, null));
            Assert.That(Difference(got, wanted), Is.LessThan(1e-5), $"seed {seed}: {settings}");
        }
    }

    [Test]
    public void Attention_reads_a_text_in_pieces_as_it_reads_it_at_once()
    {
        for (var seed = 0; seed < Configurations; seed++)
        {
            using var scope = NewDisposeScope();
            var random = new Random(seed);
            var (settings, tokens) = Draw(random);
            using var attention = Make(settings, seed);
            using var nothing = no_grad();
            using var cache = new DecoderCache();
            var states = randn([1, tokens, settings.HiddenSize]);
            var whole = attention.call(states, Context(settings, 0, tokens, null));
            var pieces = new List<Tensor>();
            for (var start = 0; start < tokens;)
            {
                var count = Math.Min(tokens - start, start > 5 ? 1 : random.Next(1, 6));
                pieces.Add(attention.call(states.narrow(1, start, count), Context(settings, start, count, cache) with { State = cache.Of(0, attention) }));
                cache.Advance(count, start + count - 1);
                start += count;
            }

            Assert.That(cat(pieces, 1).sub(whole).abs().max().ToDouble(), Is.LessThan(1e-5), $"seed {seed}: {settings}");
        }
    }

    [Test]
    public void Gradients_of_sinks_and_gates_are_those_of_small_differences()
    {
        for (var seed = 0; seed < Configurations / 4; seed++)
        {
            using var scope = NewDisposeScope();
            var (settings, tokens) = Draw(new Random(seed));
            settings = settings with { HasSinks = true, OutputGate = OutputGate.PerHead };
            using var attention = Make(settings, seed);
            var (states, weights) = (randn([1, tokens, settings.HiddenSize]), randn([1, tokens, settings.HiddenSize]));
            foreach (var parameter in attention.parameters())
            {
                parameter.requires_grad = true;
            }

            attention.call(states, Context(settings, 0, tokens, null)).mul(weights).sum().backward();
            foreach (var name in new[] { "sinks", "gate_proj.weight", "k_proj.weight" }.Where(n => attention.named_parameters().Any(p => p.name == n)))
            {
                var parameter = attention.get_parameter(name)!;
                var direction = randn(parameter.shape);
                var along = parameter.grad!.mul(direction).sum().ToDouble();
                double Loss(double step)
                {
                    var changed = new Float64Attention(settings, n => n == name ? [.. parameter.Plus(direction, step)] : Values(attention, n)).Run(Rows(states));
                    return changed.SelectMany(static r => r).Zip(weights.data<float>(), static (a, b) => a * b).Sum();
                }

                Assert.That(along, Is.EqualTo((Loss(1e-5) - Loss(-1e-5)) / 2e-5).Within(2e-4 * Math.Max(1, Math.Abs(along))), $"seed {seed}: {name}: {settings}");
            }
        }
    }

    private static (AttentionSettings Settings, int Tokens) Draw(Random random)
    {
        var keyValueHeads = random.Next(1, 4);
        var layout = (QueryKeyValueLayout)random.Next(3);
        var byHead = layout == QueryKeyValueLayout.FusedByHead;
        var width = 2 * random.Next(2, 7);
        var gate = byHead ? OutputGate.None : (OutputGate)random.Next(4);
        var norm = (QueryKeyNorm)random.Next(byHead ? 2 : 4);
        var late = norm == QueryKeyNorm.PerHead && random.Next(2) == 0;
        var settings = new AttentionSettings
        {
            HiddenSize = 8 * random.Next(1, 4),
            HeadCount = byHead ? keyValueHeads : keyValueHeads * random.Next(1, 4),
            KeyValueHeadCount = keyValueHeads,
            HeadDimension = width,
            ValueHeadDimension = random.Next(3) == 0 && gate != OutputGate.InQuery ? 2 * random.Next(1, 8) : null,
            Scale = random.NextDouble() + 0.1,
            QueryScaling = random.Next(3) == 0 ? new QueryScaling(0.3, random.Next(2, 9), random.Next(2)) : null,
            ValueMultiplier = random.Next(3) == 0 ? 0.7 : 1,
            ScoreSoftCap = random.Next(4) == 0 ? 2.5 : null,
            ProjectionLimit = random.Next(4) == 0 ? 0.8 : null,
            HasSinks = random.Next(2) == 0,
            Projections = layout,
            QueryKeyValueBias = random.Next(2) == 0,
            OutputBias = random.Next(2) == 0,
            OutputGate = gate,
            QueryKeyNorm = norm,
            NormalizesRotated = late,
            Norm = norm == QueryKeyNorm.EachHead ? new LayerNormSettings(1e-5, HasBias: false, SplitsHeads: random.Next(2) == 0)
                : random.Next(3) switch
                {
                    0 => new RmsNormSettings(1e-5, HasWeight: false),
                    1 => new LayerNormSettings(1e-5, HasBias: random.Next(2) == 0, AddsOne: random.Next(2) == 0),
                    _ => new RmsNormSettings(1e-6),
                },
            Rope = random.Next(4) == 0 ? null : new RopeConfig { Theta = 100, Interleaved = random.Next(2) == 0, IsReversed = random.Next(4) == 0, RotatedShare = random.Next(2) == 0 ? 1 : 4.0 / width },
            SlidingWindow = random.Next(3) == 0 ? random.Next(1, 12) : null,
            ChunkSize = random.Next(4) == 0 ? random.Next(2, 12) : null,
        };
        return (settings, random.Next(2) == 0 ? random.Next(2, 11) : random.Next(12, 40));
    }

    private static SelfAttention Make(AttentionSettings settings, int seed)
    {
        using var weights = new RandomWeightSource(seed, 0.4, float32, CPU);
        var attention = new SelfAttention(settings, weights, "attention");
        _ = manual_seed(seed);
        using var nothing = no_grad();
        foreach (var parameter in attention.parameters().Where(static p => p.ndim == 1))
        {
            _ = parameter.add_(randn_like(parameter).mul(0.3));
        }

        return attention;
    }

    // What a model would tell the layer.
    private static LayerContext Context(AttentionSettings settings, int start, int count, DecoderCache? cache)
    {
        var input = new ModelInput
        {
            InputIds = zeros([1, count], int64),
            PositionIds = arange(start, start + count, int64).unsqueeze(0),
            LongestPosition = start + count - 1,
            Cache = cache,
        };
        return new LayerContexts(input, float32).Of(settings.Needs);
    }

    private static double[][] Rows(Tensor states) => [.. Enumerable.Range(0, (int)states.size(1)).Select(t => states[0, t].data<float>().Select(static v => (double)v).ToArray())];

    private static double[] Values(nn.Module module, string name) => [.. module.named_parameters().Where(p => p.name == name).SelectMany(static p => p.parameter.data<float>().Select(static v => (double)v))];

    private static double Difference(Tensor got, double[][] wanted) => Rows(got).Zip(wanted, static (a, b) => a.Zip(b, static (x, y) => Math.Abs(x - y)).Max()).Max();
}

/// <summary>Numbers of tensors.</summary>
internal static class TensorNumbers
{
    /// <summary>The values of a tensor, moved along a direction, in float64.</summary>
    internal static IEnumerable<double> Plus(this Tensor values, Tensor direction, double step) => values.data<float>().Zip(direction.data<float>(), (v, d) => v + (step * d));
}
