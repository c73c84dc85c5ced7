using System.Runtime.InteropServices;
using OpenWeights.Tune.Decoding.Engine;
using OpenWeights.Tune.Kernels;

namespace OpenWeights.Tune.Decoding;

/// <summary>
/// Samples the next token from logits. Each text has its own sampler, so that its random numbers do not depend on other texts of the batch.
/// </summary>
internal sealed class TokenSampler(GenerationOptions options, int text, IEnumerable<int> prompt)
{
    // Room for the weights of all tokens, which are used up before the next token of any text is drawn.
    [ThreadStatic]
    private static double[]? t_weights;

    private readonly HashSet<int> _seen = [.. options.RepetitionPenalty == 1 ? Enumerable.Empty<int>() : prompt];
    private readonly Dictionary<int, int> _counts = [];
    private ulong _state = unchecked(((ulong)options.Seed * 0x9E3779B97F4A7C15) + ((ulong)text * 0xD1342543DE82EF95));

    /// <summary>Log-probability of the last token (<see cref="GenerationOptions.LogProbs"/>), where options ask for it.</summary>
    internal float LogProb { get; private set; }

    /// <summary>The most likely tokens in the place of the last one, likeliest first, where options ask for them.</summary>
    internal IReadOnlyList<TokenChance> Alternatives { get; private set; } = [];

    /// <summary>Samples the next token.</summary>
    /// <param name="scores">The logits; they are modified.</param>
    /// <param name="constraint">Limits the tokens that can come next; null for all.</param>
    internal int Next(Span<float> scores, ITokenConstraint? constraint = null)
    {
        Penalise(scores);
        constraint?.Restrict(scores);
        var best = Best(scores);
        if (constraint is not null && float.IsNegativeInfinity(scores[best]))
        {
            throw new InvalidDataException("no token can come next: the biases exclude every one that the text's format allows.");
        }

        t_weights ??= [];
        var choice = options.Temperature == 0 ? default : TokenChoice.Of(scores, scores[best], options, ref t_weights);
        var token = options.Temperature == 0 ? best : Draw(choice);
        if (options.LogProbs || options.TopLogProbs > 0)
        {
            if (options.LogProbsOfDraw)
            {
                RateDraw(scores, choice, best, token);
            }
            else
            {
                Rate(scores, scores[best], token);
            }
        }

        Remember(token);
        constraint?.Accept(token);
        return token;
    }

    private void Penalise(Span<float> scores)
    {
        foreach (var token in _seen)
        {
            scores[token] = (float)(scores[token] < 0 ? scores[token] * options.RepetitionPenalty : scores[token] / options.RepetitionPenalty);
        }

        foreach (var (token, count) in _counts)
        {
            scores[token] -= (float)(options.PresencePenalty + (count * options.FrequencyPenalty));
        }

        foreach (var (token, bias) in options.LogitBias)
        {
            scores[token] += bias;
        }
    }

    private void Remember(int token)
    {
        if (options.RepetitionPenalty != 1)
        {
            _ = _seen.Add(token);
        }

        if (options.PresencePenalty != 0 || options.FrequencyPenalty != 0)
        {
            _counts[token] = _counts.GetValueOrDefault(token) + 1;
        }
    }

    private void Rate(ReadOnlySpan<float> scores, float best, int token)
    {
        var temperature = options.Temperature == 0 ? 1 : options.Temperature;
        var total = Math.Log(TokenChoice.Total(scores, best, temperature));
        LogProb = Chance(scores[token]);
        if (options.TopLogProbs > 0)
        {
            var likeliest = TokenChoice.Largest(scores, Math.Min(options.TopLogProbs, scores.Length));
            var chances = new TokenChance[likeliest.Length];
            for (var i = 0; i < chances.Length; i++)
            {
                chances[i] = new TokenChance(likeliest[i], Chance(scores[likeliest[i]]));
            }

            Alternatives = chances;
        }

        float Chance(float score) => (float)(((score - best) / temperature) - total);
    }

    // How likely tokens are to be drawn: those that are cut off never are.
    private void RateDraw(ReadOnlySpan<float> scores, TokenChoice choice, int best, int token)
    {
        var chances = new Dictionary<int, float>();
        if (options.Temperature == 0)
        {
            chances[best] = 0;
        }
        else
        {
            var total = 0.0;
            foreach (var weight in choice.Weights)
            {
                total += weight;
            }

            for (var i = 0; i < choice.Weights.Length; i++)
            {
                chances[choice.TokenAt(i)] = (float)Math.Log(choice.Weights[i] / total);
            }
        }

        LogProb = chances[token];
        Alternatives = [.. TokenChoice.Largest(scores, Math.Min(options.TopLogProbs, scores.Length)).Select(t => new TokenChance(t, chances.GetValueOrDefault(t, float.NegativeInfinity)))];
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

    private int Draw(TokenChoice choice)
    {
        var total = 0.0;
        foreach (var weight in choice.Weights)
        {
            total += weight;
        }

        var left = NextUniform() * total;
        for (var i = 0; i < choice.Weights.Length; i++)
        {
            left -= choice.Weights[i];
            if (left < 0)
            {
                return choice.TokenAt(i);
            }
        }

        return choice.Last;
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
