using NUnit.Framework;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Rope;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Layers;

/// <summary>A random walk over the settings of latent attention, against its definition in plain float64 loops over tokens.</summary>
public sealed class LatentWalkTests
{
    private const int Configs = 200;

    [Test]
    public void Outputs_slopes_and_cached_outputs_are_those_of_the_definition()
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
        using var source = new RandomWeightSource(seed, 0.6, float32, CPU);
        using var attention = new LatentAttention(settings, source, "self_attn");
        using var scope = NewDisposeScope();
        using (no_grad())
        {
            foreach (var (_, parameter) in attention.named_parameters().Where(static p => p.parameter.ndim == 1))
            {
                _ = parameter.uniform_(-0.3, 1.2);
            }
        }

        var (tokens, name) = (random.Next(1, 9), $"seed {seed}: {settings}");
        var states = Values(random, tokens * settings.HiddenSize);
        var input = tensor([.. states.Select(static v => (float)v)], [1, tokens, settings.HiddenSize]).requires_grad_();
        var output = attention.call(input, Context(settings, 0, tokens, null));
        var definition = new Float64Latent(settings, attention);
        var expected = definition.Of(states);
        var slack = 3e-5 * Math.Max(1, expected.Max(Math.Abs));
        Assert.That(Largest(output, expected), Is.LessThan(slack), name);

        // Along a direction the weighted sum of the outputs changes as the gradient says.
        var (given, direction) = (Values(random, states.Length), Values(random, states.Length));
        output.view(-1).mul(tensor([.. given.Select(static v => (float)v)])).sum().backward();
        const double Step = 1e-6;
        double Along(double sign) => definition.Of([.. states.Zip(direction, (s, d) => s + (sign * Step * d))]).Zip(given, static (m, g) => m * g).Sum();
        var slope = (Along(1) - Along(-1)) / (2 * Step);
        var actual = input.grad!.view(-1).to(float64).data<double>().Zip(direction, static (g, d) => g * d).Sum();
        Assert.That(actual, Is.EqualTo(slope).Within(3e-4 * Math.Max(1, Math.Abs(slope))), name);

        using var nothing = no_grad();
        using var state = attention.NewState();
        for (int read = 0, count; read < tokens; read += count)
        {
            count = random.Next(1, tokens - read + 1);
            var part = attention.call(input.narrow(1, read, count), Context(settings, read, count, state));
            Assert.That(Largest(part, expected[(read * settings.HiddenSize)..((read + count) * settings.HiddenSize)]), Is.LessThan(slack), $"{name}, {count} tokens after {read}");
        }

        var held = settings.LatentWidth + settings.RotatedWidth;
        Assert.That(state.ByteLength % (held * sizeof(float)), Is.Zero, "only the latent and the shared part of the key are held");
    }

    private static LatentAttentionSettings Settings(Random random) => new()
    {
        HiddenSize = random.Next(3, 9),
        HeadCount = random.Next(1, 4),
        QueryRank = random.Next(2) == 0 ? null : random.Next(1, 6),
        LatentWidth = random.Next(1, 7),
        PlainWidth = random.Next(1, 6),
        RotatedWidth = 2 * random.Next(1, 4),
        ValueWidth = random.Next(1, 12),
        Scale = 0.1 + random.NextDouble(),
        HasBias = random.Next(2) == 0,
        Norm = new RmsNormSettings(1e-6),
        Rope = random.Next(4) == 0 ? null : new RopeConfig { Theta = 20 + (1000 * random.NextDouble()), Interleaved = random.Next(2) == 0 },
        QueryScaling = random.Next(3) == 0 ? new QueryScaling(0.5, 3, 0) : null,
        SlidingWindow = random.Next(3) == 0 ? random.Next(1, 6) : null,
    };

    // As a model's own forward pass makes it.
    private static LayerContext Context(LatentAttentionSettings settings, int past, int tokens, LayerState? state)
    {
        var positions = arange(past, past + tokens, int64).unsqueeze(0);
        var (cos, sin) = settings.Rope is { } rope ? new RotaryEmbedding(rope, settings.RotatedWidth).Tables(positions, past + tokens, null, float32) : default;
        using var cache = new DecoderCache();
        cache.Advance(past, past - 1);
        var input = new ModelInput { InputIds = positions, PositionIds = positions, LongestPosition = past + tokens - 1, Cache = state is null ? null : cache };
        return new LayerContext
        {
            Cos = settings.Rope is null ? null : cos,
            Sin = settings.Rope is null ? null : sin,
            Mask = AttentionMask.For(input, settings.SlidingWindow),
            Positions = positions,
            LooksAtAll = input.IsSingleStep,
            State = state,
        };
    }

    private static double[] Values(Random random, int count) => [.. Enumerable.Range(0, count).Select(_ => (2 * random.NextDouble()) - 1)];

    private static double Largest(Tensor actual, double[] expected) => actual.reshape(-1).to(float64).data<double>().Zip(expected, static (a, e) => Math.Abs(a - e)).Max();

    /// <summary>Latent attention as DeepSeek-V2's paper defines it (section 2.1), one token after another.</summary>
    private sealed class Float64Latent(LatentAttentionSettings settings, LatentAttention attention)
    {
        private readonly Dictionary<string, double[]> _weights = attention.named_parameters().ToDictionary(static p => p.name, static p => p.parameter.detach().reshape(-1).to(float64).data<double>().ToArray());

        internal double[] Of(double[] states)
        {
            var (width, rank, plain) = (settings.HiddenSize, settings.LatentWidth, settings.PlainWidth);
            double[][] rows = [.. states.Chunk(width)];
            double[][] down = [.. rows.Select(r => Linear("kv_a_proj_with_mqa", r))];
            double[][] expanded = [.. down.Select(r => Linear("kv_b_proj", Norm("kv_a_layernorm", r[..rank])))];
            double[][] shared = [.. down.Select((r, t) => Rotated(r[rank..], t))];
            double[][] queries = [.. rows.Select(r => settings.QueryRank is null ? Linear("q_proj", r) : Linear("q_b_proj", Norm("q_a_layernorm", Linear("q_a_proj", r))))];
            return [.. rows.SelectMany((_, t) =>
            {
                var mixed = new List<double>();
                for (var h = 0; h < settings.HeadCount; h++)
                {
                    var query = queries[t][(h * settings.KeyWidth)..((h + 1) * settings.KeyWidth)];
                    query = [.. query[..plain], .. Rotated(query[plain..], t)];
                    var factor = settings.QueryScaling is { } s ? 1 + (s.Weight * Math.Log(1 + Math.Floor(t / s.Length))) : 1;
                    var first = Math.Max(0, t - (settings.SlidingWindow ?? int.MaxValue) + 1);
                    var own = plain + settings.ValueWidth;
                    double[] Head(int k) => expanded[k][(h * own)..((h + 1) * own)];
                    double[] scores = [.. Enumerable.Range(first, t - first + 1).Select(k => Math.Exp(settings.Scale * factor * Dot(query, [.. Head(k)[..plain], .. shared[k]])))];
                    mixed.AddRange(Enumerable.Range(0, settings.ValueWidth).Select(i => scores.Select((s, k) => s * Head(first + k)[plain + i]).Sum() / scores.Sum()));
                }

                return Linear("o_proj", [.. mixed]);
            })];
        }

        // Pairs of neighbours, or of the two halves.
        private double[] Rotated(double[] part, int position)
        {
            if (settings.Rope is not { } rope)
            {
                return part;
            }

            var (turned, half) = ((double[])part.Clone(), part.Length / 2);
            for (var i = 0; i < half; i++)
            {
                var (a, b) = rope.Interleaved ? (2 * i, (2 * i) + 1) : (i, i + half);
                var (sin, cos) = Math.SinCos(position * Math.Pow(rope.Theta, -2.0 * i / part.Length));
                (turned[a], turned[b]) = ((part[a] * cos) - (part[b] * sin), (part[b] * cos) + (part[a] * sin));
            }

            return turned;
        }

        private double[] Norm(string name, double[] row)
        {
            var inverse = 1 / Math.Sqrt((row.Sum(static v => v * v) / row.Length) + 1e-6);
            return [.. row.Select((v, i) => v * inverse * _weights[$"{name}.weight"][i])];
        }

        private double[] Linear(string name, double[] row)
        {
            var (matrix, bias) = (_weights[$"{name}.weight"], _weights.GetValueOrDefault($"{name}.bias"));
            return [.. matrix.Chunk(row.Length).Select((m, o) => Dot(m, row) + (bias?[o] ?? 0))];
        }

        private static double Dot(double[] a, double[] b) => a.Zip(b, static (x, y) => x * y).Sum();
    }
}
