using NUnit.Framework;
using OpenWeights.Tune.Decoding;

namespace OpenWeights.Tune.Tests.Decoding;

/// <summary>Choices among few tokens without sorting them all, against the choice from all tokens in order.</summary>
public sealed class TokenSamplerTests
{
    [Test]
    public void The_likeliest_tokens_are_drawn_from_as_from_all_tokens_in_order(
        [Values(0, 1, 7, 40, 600)] int topK, [Values(0.05, 0.7, 0.95, 1)] double topP, [Values(0, 0.02, 0.5)] double minP, [Values(0.3, 1, 8)] double temperature)
    {
        var random = new Random(3);
        var options = new GenerationOptions { Temperature = temperature, TopK = topK, TopP = topP, MinP = minP };
        for (var trial = 0; trial < 20; trial++)
        {
            // Some of them equal.
            var scores = Enumerable.Range(0, 501).Select(_ => MathF.Round((float)(random.NextDouble() * 12), trial % 3)).ToArray();
            double[] room = [];
            var choice = TokenChoice.Of(scores, scores.Max(), options, ref room);
            var (tokens, weights) = InOrder(scores, options);
            Assert.That(choice.Weights.ToArray(), Is.EqualTo(weights).Within(1e-12));
            var found = new int[weights.Length];
            for (var i = 0; i < found.Length; i++)
            {
                found[i] = choice.TokenAt(i);
            }

            Assert.That(found, Is.EqualTo(tokens));
        }
    }

    [Test]
    public void The_largest_scores_come_in_order_and_equal_ones_by_token() =>
        Assert.That(TokenChoice.Largest([1, 5, float.NegativeInfinity, 5, 3, 5, 3], 5), Is.EqualTo(new[] { 1, 3, 5, 4, 6 }));

    [Test]
    public void What_is_impossible_is_never_drawn()
    {
        var sampler = new TokenSampler(new GenerationOptions { Temperature = 3 }, 0, []);
        for (var i = 0; i < 200; i++)
        {
            Assert.That(sampler.Next([float.NegativeInfinity, 1, float.NegativeInfinity, 1.2f, 0.9f, float.NegativeInfinity]), Is.AnyOf(1, 3, 4));
        }
    }

    [Test]
    public void A_frequency_penalty_counts_and_a_presence_penalty_does_not()
    {
        var frequency = new TokenSampler(new GenerationOptions { FrequencyPenalty = 1 }, 0, [0, 0, 0, 0]);
        Assert.That(Enumerable.Range(0, 5).Select(_ => frequency.Next([2.5f, 0])), Is.EqualTo(new[] { 0, 0, 0, 1, 0 }), "2.5, 1.5, 0.5, -0.5 after three, then -0.5 over -1");
        var presence = new TokenSampler(new GenerationOptions { PresencePenalty = 1 }, 0, [0, 0, 0, 0]);
        Assert.That(Enumerable.Range(0, 5).Select(_ => presence.Next([2.5f, 0])), Is.All.Zero);
    }

    private static (int[] Tokens, double[] Weights) InOrder(float[] scores, GenerationOptions options)
    {
        var weights = scores.Select(s => Math.Exp((s - scores.Max()) / options.Temperature)).ToArray();
        if (options is { TopK: 0 or 600, TopP: 1, MinP: 0 })
        {
            return ([.. Enumerable.Range(0, scores.Length)], weights);
        }

        var order = Enumerable.Range(0, scores.Length).OrderByDescending(i => scores[i]).ThenBy(static i => i).Take(options.TopK > 0 ? options.TopK : scores.Length).ToList();
        var total = order.Sum(i => weights[i]);
        var sums = order.Select((_, i) => order.Take(i).Sum(j => weights[j])).ToList();
        order = [.. order.Where((token, i) => i == 0 || ((options.TopP == 1 || sums[i] < options.TopP * total) && weights[token] >= options.MinP))];
        return ([.. order], [.. order.Select(i => weights[i])]);
    }
}
