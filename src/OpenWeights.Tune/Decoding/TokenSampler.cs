using System.Runtime.InteropServices;
using OpenWeights.Tune.Kernels;

namespace OpenWeights.Tune.Decoding;

/// <summary>
/// Samples the next token from logits. Each text has its own sampler, so that its random numbers do not depend on other texts of the batch.
/// </summary>
internal sealed class TokenSampler(GenerationOptions options, int text, IEnumerable<int> prompt)
{
    private readonly HashSet<int> _seen = [.. prompt];
    private ulong _state = unchecked(((ulong)options.Seed * 0x9E3779B97F4A7C15) + ((ulong)text * 0xD1342543DE82EF95));

    /// <summary>Log-probability of the last token before top-k, top-p and min-p, where options ask for it; of greedy decoding at a temperature of 1.</summary>
    internal float LogProb { get; private set; }

    /// <summary>Samples the next token.</summary>
    /// <param name="scores">The logits; they are modified.</param>
    internal int Next(Span<float> scores)
    {
        Penalise(scores);
        var token = Choose(scores);
        LogProb = options.LogProbs ? LogProbOf(scores, token) : 0;
        _ = _seen.Add(token);
        return token;
    }

    private void Penalise(Span<float> scores)
    {
        if (options.RepetitionPenalty == 1)
        {
            return;
        }

        foreach (var token in _seen)
        {
            scores[token] = (float)(scores[token] < 0 ? scores[token] * options.RepetitionPenalty : scores[token] / options.RepetitionPenalty);
        }
    }

    private int Choose(ReadOnlySpan<float> scores)
    {
        if (options.Temperature == 0)
        {
            return Best(scores);
        }

        var order = new int[scores.Length];
        var weights = new double[scores.Length];
        var best = scores[Best(scores)];
        for (var i = 0; i < order.Length; i++)
        {
            order[i] = i;
            weights[i] = Math.Exp((scores[i] - best) / options.Temperature);
        }

        var count = order.Length;
        if (options.TopK > 0 || options.TopP < 1 || options.MinP > 0)
        {
            Array.Sort(order, (a, b) => weights[a] != weights[b] ? weights[b].CompareTo(weights[a]) : a.CompareTo(b));
            count = options.TopK > 0 ? Math.Min(options.TopK, count) : count;
            count = Nucleus(order.AsSpan(0, count), weights);

            // The most likely token's weight is 1.
            while (count > 1 && weights[order[count - 1]] < options.MinP)
            {
                count--;
            }
        }

        return Draw(order.AsSpan(0, count), weights);
    }

    private float LogProbOf(ReadOnlySpan<float> scores, int token)
    {
        var (temperature, best, total) = (options.Temperature == 0 ? 1 : options.Temperature, scores[Best(scores)], 0.0);
        foreach (var score in scores)
        {
            total += Math.Exp((score - best) / temperature);
        }

        return (float)(((scores[token] - best) / temperature) - Math.Log(total));
    }

    // The first of equal logits, as torch's argmax on the CPU.
    private static unsafe int Best(ReadOnlySpan<float> scores)
    {
        fixed (float* start = scores)
        {
            // Comparing bits would distinguish 0 and -0, and NaN does not equal itself.
            var largest = RowSoftmax.Largest(start, scores.Length);
            var place = largest == 0 ? -1 : MemoryMarshal.Cast<float, int>(scores).IndexOf(BitConverter.SingleToInt32Bits(largest));
            if (place >= 0 && !float.IsNaN(largest))
            {
                return place;
            }
        }

        var best = 0;
        for (var i = 1; i < scores.Length; i++)
        {
            if (scores[i] > scores[best])
            {
                best = i;
            }
        }

        return best;
    }

    private int Nucleus(ReadOnlySpan<int> order, double[] weights)
    {
        var total = 0.0;
        foreach (var i in order)
        {
            total += weights[i];
        }

        var (sum, count) = (0.0, 0);
        while (count < order.Length && (count == 0 || sum < options.TopP * total))
        {
            sum += weights[order[count++]];
        }

        return count;
    }

    private int Draw(ReadOnlySpan<int> order, double[] weights)
    {
        var total = 0.0;
        foreach (var i in order)
        {
            total += weights[i];
        }

        var left = NextUniform() * total;
        foreach (var i in order)
        {
            left -= weights[i];
            if (left < 0)
            {
                return i;
            }
        }

        return order[^1];
    }

    private double NextUniform()
    {
        // SplitMix64; the upper 53 bits give a number below 1.
        var z = _state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return ((z ^ (z >> 31)) >> 11) * (1.0 / (1UL << 53));
    }
}
