using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Tests.Layers;

/// <summary>Attention computed again in plain float64 loops from its settings: no torch, and nothing of the library but the settings.</summary>
internal sealed class Float64Attention(AttentionSettings settings, Func<string, double[]> weights)
{
    private readonly int _width = settings.HeadDimension;
    private readonly int _valueWidth = settings.ValueHeadDimension ?? settings.HeadDimension;

    internal double[][] Run(double[][] x)
    {
        var projected = x.Select(Project).ToArray();
        var group = settings.HeadCount / settings.KeyValueHeadCount;
        var sinks = weights("sinks");
        var result = new double[x.Length][];
        for (var t = 0; t < x.Length; t++)
        {
            var mixed = new double[settings.HeadCount * _valueWidth];
            for (var h = 0; h < settings.HeadCount; h++)
            {
                var query = Placed(projected[t].Query, h, t, "q_norm");
                if (settings.QueryScaling is { } s)
                {
                    query = [.. query.Select(v => v * (1 + (s.Weight * Math.Log(1 + Math.Floor((t + s.Offset) / s.Length)))))];
                }

                var seen = Enumerable.Range(0, t + 1).Where(k => Sees(t, k)).ToList();
                var scores = seen.Select(k => Score(query, Placed(projected[k].Key, h / group, k, "k_norm"))).ToList();
                var largest = Math.Max(scores.Max(), settings.HasSinks ? sinks[h] : double.NegativeInfinity);
                var sum = scores.Sum(v => Math.Exp(v - largest)) + (settings.HasSinks ? Math.Exp(sinks[h] - largest) : 0);
                for (var i = 0; i < _valueWidth; i++)
                {
                    mixed[(h * _valueWidth) + i] = seen.Zip(scores, (k, v) => Math.Exp(v - largest) / sum * projected[k].Value[(h / group * _valueWidth) + i]).Sum();
                }
            }

            for (var i = 0; i < mixed.Length && projected[t].Gate is { } gate; i++)
            {
                mixed[i] /= 1 + Math.Exp(-gate[settings.OutputGate == OutputGate.PerHead ? i / _valueWidth : i]);
            }

            result[t] = Linear(mixed, "o_proj", settings.OutputBias);
        }

        return result;
    }

    private bool Sees(int query, int key) => settings.ChunkSize is { } chunk ? query / chunk == key / chunk : query - key < (settings.SlidingWindow ?? int.MaxValue);

    private double Score(double[] query, double[] key)
    {
        var score = settings.Scale * query.Zip(key, static (a, b) => a * b).Sum();
        return settings.ScoreSoftCap is { } cap ? cap * Math.Tanh(score / cap) : score;
    }

    private (double[] Query, double[] Key, double[] Value, double[]? Gate) Project(double[] x)
    {
        var (query, key, value) = settings.Projections switch
        {
            QueryKeyValueLayout.Separate => (Input(x, "q_proj"), Input(x, "k_proj"), Input(x, "v_proj")),
            QueryKeyValueLayout.Fused => Fused(Input(x, "qkv_proj")),
            _ => ByHead(Input(x, "qkv_proj")),
        };
        var gate = settings.OutputGate is OutputGate.PerElement or OutputGate.PerHead ? Linear(x, "gate_proj", false) : null;
        if (settings.OutputGate == OutputGate.InQuery)
        {
            var heads = query.Chunk(2 * _width).ToList();
            (query, gate) = ([.. heads.SelectMany(h => h[.._width])], [.. heads.SelectMany(h => h[_width..])]);
        }

        if (settings is { QueryKeyNorm: QueryKeyNorm.AllHeads })
        {
            (query, key) = (Norm(query, "q_norm", 0), Norm(key, "k_norm", 0));
        }

        return (query, key, [.. value.Select(v => Clipped(v * settings.ValueMultiplier))], gate);
    }

    private double Clipped(double value) => settings.ProjectionLimit is { } limit ? Math.Clamp(value, -limit, limit) : value;

    private (double[], double[], double[]) Fused(double[] all)
    {
        var (keys, values) = (settings.KeyValueHeadCount * _width, settings.KeyValueHeadCount * _valueWidth);
        return (all[..^(keys + values)], all[^(keys + values)..^values], all[^values..]);
    }

    private (double[], double[], double[]) ByHead(double[] all)
    {
        var heads = all.Chunk(all.Length / settings.HeadCount).ToList();
        return ([.. heads.SelectMany(h => h[.._width])], [.. heads.SelectMany(h => h[_width..(2 * _width)])], [.. heads.SelectMany(h => h[(2 * _width)..])]);
    }

    // A head, normalised and turned.
    private double[] Placed(double[] all, int head, int position, string norm)
    {
        var own = all[(head * _width)..((head + 1) * _width)];
        var each = settings.QueryKeyNorm is QueryKeyNorm.PerHead or QueryKeyNorm.EachHead;
        if (each && !settings.NormalizesRotated)
        {
            own = Norm(own, norm, head);
        }

        own = Turned([.. own.Select(Clipped)], position);
        return each && settings.NormalizesRotated ? Norm(own, norm, head) : own;
    }

    private double[] Turned(double[] head, int position)
    {
        if (settings.Rope is not { } rope)
        {
            return head;
        }

        var (turned, rotated) = ((double[])head.Clone(), (int)(_width * rope.RotatedShare));
        for (var i = 0; i < rotated / 2; i++)
        {
            var (first, second) = rope.Interleaved ? (2 * i, (2 * i) + 1) : (i, i + (rotated / 2));
            var (sin, cos) = Math.SinCos(position * Math.Pow(rope.Theta, -2.0 * i / rotated) * (rope.IsReversed ? -1 : 1));
            turned[first] = (head[first] * cos) - (head[second] * sin);
            turned[second] = (head[second] * cos) + (head[first] * sin);
        }

        return turned;
    }

    private double[] Norm(double[] x, string name, int head)
    {
        if (settings.Norm is RmsNormSettings rms)
        {
            var weight = weights($"{name}.weight");
            var root = Math.Sqrt(x.Average(static v => v * v) + rms.Epsilon);
            return [.. x.Select((v, i) => v / root * (rms.HasWeight ? weight[i] : 1))];
        }

        var layer = (LayerNormSettings)settings.Norm;
        var own = settings.QueryKeyNorm == QueryKeyNorm.EachHead;
        var scale = weights(own && layer.SplitsHeads ? $"{name}.norms.{head}.weight" : $"{name}.weight").AsSpan();
        scale = own && !layer.SplitsHeads ? scale.Slice(head * _width, _width) : scale;
        var (factors, bias) = (scale.ToArray(), weights($"{name}.bias"));
        var mean = x.Average();
        var deviation = Math.Sqrt(x.Average(v => (v - mean) * (v - mean)) + layer.Epsilon);
        return [.. x.Select((v, i) => ((v - mean) / deviation * (factors[i] + (layer.AddsOne ? 1 : 0))) + (layer.HasBias ? bias[i] : 0))];
    }

    private double[] Input(double[] x, string name) => Linear(x, name, settings.QueryKeyValueBias);

    private double[] Linear(double[] x, string name, bool hasBias)
    {
        var (matrix, bias) = (weights($"{name}.weight"), hasBias ? weights($"{name}.bias") : []);
        return [.. Enumerable.Range(0, matrix.Length / x.Length).Select(o =>
        {
            var sum = hasBias ? bias[o] : 0;
            for (var i = 0; i < x.Length; i++)
            {
                sum += matrix[(o * x.Length) + i] * x[i];
            }

            return sum;
        })];
    }
}
