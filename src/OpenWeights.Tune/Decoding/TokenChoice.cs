using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace OpenWeights.Tune.Decoding;

/// <summary>The tokens that can be drawn, with their weights: all in order of their ids, or the likeliest ones, likeliest first.</summary>
internal readonly ref struct TokenChoice
{
    // Logarithm of weights that are 0 beside 1.
    private const double Smallest = -700;

    private readonly int[]? _tokens;

    private TokenChoice(int[]? tokens, ReadOnlySpan<double> weights)
    {
        _tokens = tokens;
        Weights = weights;
    }

    /// <summary>Weight of each token; that of the likeliest is 1.</summary>
    internal ReadOnlySpan<double> Weights { get; }

    /// <summary>The last of the tokens that can come at all: rounding can leave a rest after the sum of all weights.</summary>
    internal int Last => TokenAt(Math.Max(0, Weights.LastIndexOfAnyExcept(0)));

    /// <summary>A token by its place.</summary>
    internal int TokenAt(int place) => _tokens is null ? place : _tokens[place];

    /// <summary>The tokens that remain after top-k, top-p and min-p.</summary>
    /// <param name="scores">The logits.</param>
    /// <param name="best">The largest of them.</param>
    /// <param name="options">Settings of the generation, with a temperature above 0.</param>
    /// <param name="weights">Room for the weights of all tokens, made where it is too small; the result is valid until it is used again.</param>
    internal static TokenChoice Of(ReadOnlySpan<float> scores, float best, GenerationOptions options, ref double[] weights)
    {
        if (options.TopK > 0 && options.TopK < scores.Length)
        {
            return OfLargest(scores, best, options);
        }

        weights = weights.Length < scores.Length ? new double[scores.Length] : weights;
        var all = weights.AsSpan(0, scores.Length);
        var total = Exponentials(scores, best, options.Temperature, all);
        return options is { TopP: >= 1, MinP: <= 0 } ? new TokenChoice(null, all) : OfWeights(all, total, options);
    }

    /// <summary>The sum of all weights.</summary>
    internal static double Total(ReadOnlySpan<float> scores, float best, double temperature) => Exponentials(scores, best, temperature, []);

    /// <summary>The tokens with the largest logits, the largest first; of equal ones those with smaller ids.</summary>
    /// <param name="scores">The logits.</param>
    /// <param name="count">Number of tokens.</param>
    internal static int[] Largest(ReadOnlySpan<float> scores, int count)
    {
        // The root of the queue is the token that the next better one replaces.
        var kept = new PriorityQueue<int, (float Score, int Token)>(count + 1, Comparer<(float Score, int Token)>.Create(
            static (a, b) => a.Score != b.Score ? a.Score.CompareTo(b.Score) : b.Token.CompareTo(a.Token)));
        var least = float.NegativeInfinity;
        for (var i = 0; i < scores.Length; i++)
        {
            if (kept.Count < count)
            {
                kept.Enqueue(i, (scores[i], i));
            }
            else if (scores[i] > least)
            {
                _ = kept.EnqueueDequeue(i, (scores[i], i));
            }
            else
            {
                continue;
            }

            least = kept.TryPeek(out _, out var lowest) && kept.Count == count ? lowest.Score : float.NegativeInfinity;
        }

        var tokens = new int[kept.Count];
        for (var i = tokens.Length - 1; i >= 0; i--)
        {
            tokens[i] = kept.Dequeue();
        }

        return tokens;
    }

    private static TokenChoice OfLargest(ReadOnlySpan<float> scores, float best, GenerationOptions options)
    {
        var tokens = Largest(scores, options.TopK);
        var weights = new double[tokens.Length];
        for (var i = 0; i < tokens.Length; i++)
        {
            weights[i] = Math.Exp((scores[tokens[i]] - best) / options.Temperature);
        }

        return Cut(tokens, weights, Sum(weights), options);
    }

    // Tokens so unlikely that all of them together are outside of the nucleus need no order.
    private static TokenChoice OfWeights(ReadOnlySpan<double> all, double total, GenerationOptions options)
    {
        var least = Math.Max(options.TopP < 1 ? 0.5 * (1 - options.TopP) * total / all.Length : 0, 0.5 * options.MinP);
        var (tokens, keys) = (new List<int>(), new List<double>());
        for (var i = 0; i < all.Length; i++)
        {
            if (all[i] >= least)
            {
                tokens.Add(i);
                keys.Add(-all[i]);
            }
        }

        var (sorted, weights) = (tokens.ToArray(), keys.ToArray());
        SortStably(weights, sorted);
        for (var i = 0; i < weights.Length; i++)
        {
            weights[i] = -weights[i];
        }

        return Cut(sorted, weights, total, options);
    }

    private static TokenChoice Cut(int[] tokens, double[] weights, double total, GenerationOptions options)
    {
        var count = weights.Length;
        if (options.TopP < 1)
        {
            count = 0;
            for (var sum = 0.0; count < weights.Length && (count == 0 || sum < options.TopP * total); count++)
            {
                sum += weights[count];
            }
        }

        // The most likely token's weight is 1.
        while (count > 1 && weights[count - 1] < options.MinP)
        {
            count--;
        }

        return new TokenChoice(tokens, weights.AsSpan(0, count));
    }

    // Tokens of equal weight stay in order of their ids.
    private static void SortStably(double[] keys, int[] tokens)
    {
        Array.Sort(keys, tokens);
        for (var start = 0; start < keys.Length;)
        {
            var end = start + 1;
            while (end < keys.Length && keys[end] == keys[start])
            {
                end++;
            }

            if (end - start > 1)
            {
                Array.Sort(tokens, start, end - start);
            }

            start = end;
        }
    }

    private static double Sum(ReadOnlySpan<double> weights)
    {
        var sum = 0.0;
        foreach (var weight in weights)
        {
            sum += weight;
        }

        return sum;
    }

    // exp((score - best) / temperature) of all scores, stored where there is room, and their sum.
    private static double Exponentials(ReadOnlySpan<float> scores, float best, double temperature, Span<double> weights)
    {
        var (sums, i, inverse) = (Vector256<double>.Zero, 0, 1 / temperature);
        ref var first = ref MemoryMarshal.GetReference(scores);
        for (; i <= scores.Length - Vector256<double>.Count; i += Vector256<double>.Count)
        {
            var score = Vector128.LoadUnsafe(ref first, (nuint)i);
            var (low, high) = Vector128.Widen(score - Vector128.Create(best));
            var exponentials = Exponentials(Vector256.Create(low, high) * Vector256.Create(inverse));
            sums += exponentials;
            if (!weights.IsEmpty)
            {
                exponentials.CopyTo(weights[i..]);
            }
        }

        // The last ones as vectors too, so that equal scores have equal weights.
        if (i < scores.Length)
        {
            Span<float> last = stackalloc float[Vector128<float>.Count];
            last.Fill(float.NegativeInfinity);
            scores[i..].CopyTo(last);
            var (low, high) = Vector128.Widen(Vector128.Create<float>(last) - Vector128.Create(best));
            var exponentials = Exponentials(Vector256.Create(low, high) * Vector256.Create(inverse));
            sums += exponentials;
            for (var j = i; j < scores.Length && !weights.IsEmpty; j++)
            {
                weights[j] = exponentials[j - i];
            }
        }

        return Vector256.Sum(sums);
    }

    // Vector256.Exp computes all of a vector in another way if one number is that small, so that equal numbers would have unequal results.
    private static Vector256<double> Exponentials(Vector256<double> values)
    {
        var least = Vector256.Create(Smallest);
        return Vector256.ConditionalSelect(Vector256.LessThan(values, least), Vector256<double>.Zero, Vector256.Exp(Vector256.Max(values, least)));
    }
}
