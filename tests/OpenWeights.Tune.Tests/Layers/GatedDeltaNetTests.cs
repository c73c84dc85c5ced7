using NUnit.Framework;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Mixers;
using OpenWeights.Tune.Tests.Models.Families;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Layers;

/// <summary>Linear attention with random settings against its definition in float64, a document and a token at a time.</summary>
public sealed class GatedDeltaNetTests
{
    private const int Configurations = 200;

    [Test]
    public void Outputs_are_those_of_the_definition_whatever_the_settings()
    {
        using var nothing = no_grad();
        for (var i = 0; i < Configurations; i++)
        {
            using var scope = NewDisposeScope();
            var random = new Random(i);
            var settings = Settings(random);
            using var source = new VariedWeightSource((ulong)i);
            using var mixer = settings.Make(source, "mixer");
            int[] lengths = [.. Enumerable.Range(0, random.Next(1, 4)).Select(_ => random.Next(1, random.Next(2) == 0 ? 12 : 90))];
            var states = randn([1, lengths.Sum(), settings.HiddenSize], generator: new Generator((ulong)i));
            var documents = tensor([.. lengths.SelectMany(static (length, document) => Enumerable.Repeat((long)document + 1, length))], [1, lengths.Sum()]);
            var output = mixer.Run(states, null, new LayerContext { Documents = lengths.Length > 1 ? documents : null });
            var weights = mixer.named_parameters().ToDictionary(static p => p.name, static p => p.parameter.to(float64));
            var definition = new Definition(settings, weights);
            var expected = cat([.. states[0].to(float64).split(lengths.Select(static l => (long)l).ToArray()).Select(definition.Of)]);
            Assert.That(Golden.LargestDifference(output[0], expected), Is.LessThan(5e-4 * Math.Max(1, expected.abs().max().ToDouble())), $"{i}: {settings}");
        }
    }

    private static GatedDeltaNetSettings Settings(Random random)
    {
        var projections = Enum.GetValues<DeltaProjections>()[random.Next(4)];
        var (keys, group) = (random.Next(1, 4), projections == DeltaProjections.PerChannel ? 1 : random.Next(1, 4));
        var width = random.Next(4, 12);
        return new GatedDeltaNetSettings
        {
            HiddenSize = random.Next(4, 20),
            KeyHeads = new Dimension("key heads", keys),
            ValueHeads = new Dimension("value heads", keys * group),
            KeyWidth = new Dimension("key width", width),
            ValueWidth = new Dimension("value width", projections == DeltaProjections.PerChannel ? width : random.Next(4, 12)),
            Kernel = new Dimension("kernel", random.Next(1, 6)),
            NormEpsilon = 0.05,
            Projections = projections,
            AllowsNegativeEigenvalues = random.Next(2) == 0,
        };
    }

    /// <summary>The definition, for one document.</summary>
    private sealed class Definition(GatedDeltaNetSettings settings, Dictionary<string, Tensor> weights)
    {
        private readonly long _heads = settings.ValueHeads.Size;
        private readonly long _group = settings.ValueHeads.Size / settings.KeyHeads.Size;

        internal Tensor Of(Tensor states)
        {
            var (mixed, gate, beta, decay) = Inputs(states);
            mixed = Convolved(mixed);
            var parts = mixed.split([settings.Keys.Size, settings.Keys.Size, settings.Values.Size], -1);
            Tensor Unit(Tensor x) => x.div(x.mul(x).sum(-1, keepdim: true).add(1e-6).sqrt());
            var query = Unit(parts[0].view(-1, settings.KeyHeads.Size, settings.KeyWidth.Size)).div(Math.Sqrt(settings.KeyWidth.Size)).repeat_interleave(_group, 1);
            var key = Unit(parts[1].view(-1, settings.KeyHeads.Size, settings.KeyWidth.Size)).repeat_interleave(_group, 1);
            var value = parts[2].view(-1, _heads, settings.ValueWidth.Size);
            var matrix = zeros([_heads, settings.KeyWidth.Size, settings.ValueWidth.Size], float64);
            var read = new List<Tensor>();
            for (var t = 0; t < states.size(0); t++)
            {
                matrix = matrix.mul(decay[t].exp().unsqueeze(-1));
                var missing = value[t].sub(matrix.mul(key[t].unsqueeze(-1)).sum(1)).mul(beta[t].unsqueeze(-1));
                matrix = matrix.add(key[t].unsqueeze(-1).mul(missing.unsqueeze(1)));
                read.Add(matrix.mul(query[t].unsqueeze(-1)).sum(1));
            }

            var all = stack(read);
            var normed = all.div(all.mul(all).mean([-1], keepdim: true).add(settings.NormEpsilon).sqrt()).mul(weights.GetValueOrDefault("norm.weight") ?? weights["o_norm.weight"]);
            var open = settings.Projections == DeltaProjections.PerChannel ? gate.sigmoid() : gate.mul(gate.sigmoid());
            return normed.mul(open.reshape(normed.shape)).view(states.size(0), -1).matmul((weights.GetValueOrDefault("out_proj.weight") ?? weights["o_proj.weight"]).t());
        }

        // What is convolved, the gate, betas, and the logarithms of decays, [tokens, value heads, 1 or key width].
        private (Tensor Mixed, Tensor Gate, Tensor Beta, Tensor Decay) Inputs(Tensor states)
        {
            Tensor Linear(string name, Tensor? input = null) => (input ?? states).matmul(weights[$"{name}.weight"].t());
            var (mixed, gate, beta, decay) = settings.Projections switch
            {
                DeltaProjections.ByHead => ByHead(Linear("in_proj_qkvz"), Linear("in_proj_ba")),
                DeltaProjections.ByUse => (Linear("in_proj_qkv"), Linear("in_proj_z"), Linear("in_proj_b"), Linear("in_proj_a")),
                DeltaProjections.Separate => (cat([Linear("q_proj"), Linear("k_proj"), Linear("v_proj")], -1), Linear("g_proj"), Linear("b_proj"), Linear("a_proj")),
                _ => (cat([Linear("q_proj"), Linear("k_proj"), Linear("v_proj")], -1), Linear("g_b_proj", Linear("g_a_proj")), Linear("b_proj"), Linear("forget_gate.f_b_proj", Linear("forget_gate.f_a_proj"))),
            };
            var (rate, bias) = settings.Projections == DeltaProjections.PerChannel ? (weights["forget_gate.A_log"], weights["forget_gate.dt_bias"]) : (weights["A_log"], weights["dt_bias"]);
            var steps = decay.add(bias).exp().log1p().view(states.size(0), _heads, -1);
            return (mixed, gate, beta.sigmoid().mul(settings.AllowsNegativeEigenvalues ? 2 : 1), steps.mul(rate.view(-1, 1).exp()).neg());
        }

        // Key head by key head: its query, its key, its heads' values and gates; and its heads' betas and decays.
        private (Tensor Mixed, Tensor Gate, Tensor Beta, Tensor Decay) ByHead(Tensor all, Tensor steps)
        {
            var (width, values) = (settings.KeyWidth.Size, _group * settings.ValueWidth.Size);
            var pieces = Enumerable.Range(0, (int)settings.KeyHeads.Size).Select(h => all.narrow(1, h * 2 * (width + values), 2 * (width + values)).split([width, width, values, values], 1)).ToList();
            Tensor Part(int part) => cat([.. pieces.Select(p => p[part])], 1);
            var halves = Enumerable.Range(0, (int)settings.KeyHeads.Size).Select(h => steps.narrow(1, h * 2 * _group, 2 * _group).chunk(2, 1)).ToList();
            return (cat([Part(0), Part(1), Part(2)], 1), Part(3), cat([.. halves.Select(static h => h[0])], 1), cat([.. halves.Select(static h => h[1])], 1));
        }

        private Tensor Convolved(Tensor inputs)
        {
            var (weight, sums) = (weights["conv1d.weight"], zeros_like(inputs));
            for (var back = 0; back < weight.size(2); back++)
            {
                var taken = Math.Max(0, inputs.size(0) - back);
                sums = sums.add(cat([zeros([inputs.size(0) - taken, inputs.size(1)], float64), inputs.narrow(0, 0, taken)]).mul(weight.select(2, weight.size(2) - 1 - back).view(-1)));
            }

            return sums.mul(sums.sigmoid());
        }
    }
}
