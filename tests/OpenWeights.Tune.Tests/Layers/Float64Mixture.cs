using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Layers.FeedForward;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Layers;

/// <summary>A mixture of experts in plain float64 loops over tokens and numbers, from its settings and its weights.</summary>
internal sealed class Float64Mixture
{
    private readonly MixtureSettings _settings;
    private readonly Dictionary<string, double[]> _weights;
    private readonly Dictionary<string, (double[] A, double[] B, double Scale)> _updates;
    private readonly int _hidden;

    internal Float64Mixture(MixtureSettings settings, MixtureOfExperts mixture, string? changed = null, double[]? values = null)
    {
        _settings = settings;
        _hidden = settings.Experts.HiddenSize;
        static double[] Doubles(Tensor tensor) => [.. tensor.detach().contiguous().to(float64).data<double>()];
        _weights = mixture.named_parameters().Select(static p => (p.name, Values: Doubles(p.parameter))).Concat(mixture.named_buffers().Select(static b => (b.name, Values: Doubles(b.buffer)))).ToDictionary();
        _updates = mixture.Experts.Matrices.SelectMany(static m => m.Updates.Select(u => (m.Name, (Doubles(u.A), Doubles(u.B), (double)u.Scale)))).ToDictionary();
        if (changed is not null)
        {
            _weights[changed] = values!;
        }
    }

    /// <summary>The experts chosen in the last computation, as a text.</summary>
    internal string Chosen { get; private set; } = "";

    /// <summary>The output of some tokens, all in one list.</summary>
    internal double[] Of(double[] states)
    {
        Chosen = "";
        return [.. states.Chunk(_hidden).SelectMany(Token)];
    }

    private double[] Token(double[] x)
    {
        var (weights, chosen) = Route(x);
        Chosen += string.Join(",", chosen) + ";";
        var sum = new double[_hidden];
        foreach (var (weight, expert) in weights.Zip(chosen))
        {
            var output = _settings.ScalesInput ? Expert([.. x.Select(v => v * weight)], expert) : [.. Expert(x, expert).Select(v => v * weight)];
            Add(sum, output, 1);
        }

        if (_settings.Shared is GatedFeedForwardSettings shared)
        {
            double[] Layer(string name, double[] input) => Multiply(_weights[$"shared.{name}.weight"], input);
            double[] inner = [.. Layer("gate_proj", x).Zip(Layer("up_proj", x), (g, u) => Act(shared.Activation, g) * u)];
            Add(sum, Layer("down_proj", inner), _settings.SharedGate is { } gate ? Sigmoid(Multiply(_weights[$"{gate}.weight"], x)[0]) : 1);
        }

        return sum;
    }

    private (double[] Weights, int[] Chosen) Route(double[] x)
    {
        var router = _settings.Router;
        var logits = Multiply(_weights[$"{router.Name}.weight"], x);
        if (router.HasBias)
        {
            Add(logits, _weights[$"{router.Name}.bias"], 1);
        }

        var (weights, chosen) = router.Scoring switch
        {
            RouterScoring.SparseMixer => Mix(logits),
            RouterScoring.SoftmaxOfChosen => Best(logits) is var best ? (Softmax([.. best.Select(e => logits[e])]), best) : default,
            _ => Scored(router.Scoring == RouterScoring.Sigmoid ? [.. logits.Select(Sigmoid)] : Softmax(logits)),
        };
        if (router.Normalizes)
        {
            var sum = Math.Max(weights.Sum() + router.SumEpsilon, router.LeastSum);
            weights = [.. weights.Select(w => w / sum)];
        }

        return ([.. weights.Zip(chosen, (w, e) => w * router.Scale * (router.ExpertScale is { } scale ? _weights[scale][e] : 1))], chosen);
    }

    private (double[] Weights, int[] Chosen) Scored(double[] scores)
    {
        var choice = scores.ToArray();
        if (_settings.Router.Correction is { } correction)
        {
            Add(choice, _weights[correction], 1);
        }

        if (_settings.Router.Groups is { } groups)
        {
            var size = choice.Length / groups.Count;
            var best = Enumerable.Range(0, groups.Count).OrderByDescending(g => choice.Skip(g * size).Take(size).OrderDescending().Take(groups.Scored).Sum()).Take(groups.Chosen).ToHashSet();
            choice = [.. choice.Select((score, e) => best.Contains(e / size) ? score : 0)];
        }

        var chosen = Best(choice);
        return ([.. chosen.Select(e => scores[e])], chosen);
    }

    private (double[] Weights, int[] Chosen) Mix(double[] logits)
    {
        var (left, weights, chosen) = (logits.ToArray(), new List<double>(), new List<int>());
        for (var i = 0; i < 2; i++)
        {
            var most = left.Max();
            var expert = Array.IndexOf(left, most);
            var near = left.Select((v, e) => (most - logits[e]) / Math.Max(Math.Abs(logits[e]), most) > 2 * _settings.Router.TieTolerance ? double.NegativeInfinity : v).ToArray();
            weights.Add(Softmax(near)[expert]);
            chosen.Add(expert);
            left[expert] = double.NegativeInfinity;
        }

        return ([.. weights], [.. chosen]);
    }

    private int[] Best(double[] scores) => [.. Enumerable.Range(0, scores.Length).OrderByDescending(e => scores[e]).Take(_settings.ExpertsPerToken)];

    private double[] Expert(double[] x, int expert)
    {
        var settings = _settings.Experts;
        var first = Product(settings.HasGate ? "gate_up_proj" : "up_proj", x, expert);
        if (!settings.HasGate)
        {
            return Product("down_proj", [.. first.Select(v => Act(settings.Activation, v))], expert);
        }

        var inner = first.Length / 2;
        double Gate(int i) => settings.IsInterleaved ? first[2 * i] : first[i];
        double Up(int i) => settings.IsInterleaved ? first[(2 * i) + 1] : first[inner + i];
        double Active(int i)
        {
            if (settings.Clamp is not { } clamp)
            {
                return Act(settings.Activation, Gate(i)) * Up(i);
            }

            var (gate, up) = (Math.Min(Gate(i), clamp.Limit), Math.Clamp(Up(i), -clamp.Limit, clamp.Limit));
            return (up + 1) * gate * Sigmoid(clamp.Alpha * gate);
        }

        return Product("down_proj", [.. Enumerable.Range(0, inner).Select(Active)], expert);
    }

    // y = x Wᵀ + b + s B A x, with W as it is stored: [experts, out, in], or [experts, in, out].
    private double[] Product(string name, double[] x, int expert)
    {
        var (settings, all) = (_settings.Experts, _weights[$"{_settings.ExpertsName}.{name}"]);
        var (count, input) = (settings.Count, x.Length);
        var output = all.Length / count / input;
        double W(int o, int i) => all[(expert * output * input) + (settings.IsTransposed ? (i * output) + o : (o * input) + i)] + Update(name, expert, (o, i), (output, input));
        var y = Enumerable.Range(0, output).Select(o => Enumerable.Range(0, input).Sum(i => W(o, i) * x[i])).ToArray();
        if (settings.HasBias)
        {
            Add(y, [.. _weights[$"{_settings.ExpertsName}.{name}_bias"].Skip(expert * output).Take(output)], 1);
        }

        return y;
    }

    private double Update(string name, int expert, (int Out, int In) at, (int Out, int In) size)
    {
        if (!_updates.TryGetValue(name, out var update))
        {
            return 0;
        }

        // The row and column of the update: the matrix's own, or the stored one's.
        var (row, column, width) = _settings.Experts.UpdatesAsStored ? (at.In, at.Out, size.Out) : (at.Out, at.In, size.In);
        var count = _settings.Experts.Count;
        var ranks = update.A.Length / width;
        var rank = ranks / count;
        return update.Scale * Enumerable.Range(0, rank).Sum(r => update.B[(row * ranks) + (r * count) + expert] * update.A[(((expert * rank) + r) * width) + column]);
    }

    private static double Act(Activation activation, double v) => activation switch
    {
        Activation.Silu => v * Sigmoid(v),
        Activation.GeluTanh => 0.5 * v * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (v + (0.044715 * v * v * v)))),
        _ => Math.Max(v, 0) * Math.Max(v, 0),
    };

    private static double Sigmoid(double v) => 1 / (1 + Math.Exp(-v));

    private static double[] Softmax(double[] values)
    {
        var exponentials = values.Select(v => Math.Exp(v - values.Max())).ToArray();
        return [.. exponentials.Select(e => e / exponentials.Sum())];
    }

    private static double[] Multiply(double[] matrix, double[] x) => [.. matrix.Chunk(x.Length).Select(row => row.Zip(x, static (w, v) => w * v).Sum())];

    private static void Add(double[] sum, double[] values, double factor)
    {
        for (var i = 0; i < sum.Length; i++)
        {
            sum[i] += factor * values[i];
        }
    }
}
