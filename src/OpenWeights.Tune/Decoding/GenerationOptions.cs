using System.Collections.ObjectModel;
using System.Globalization;

namespace OpenWeights.Tune.Decoding;

/// <summary>Settings of text generation.</summary>
public sealed record GenerationOptions
{
    /// <summary>Maximum number of tokens to generate.</summary>
    public int MaxNewTokens { get; init; } = 128;

    /// <summary>Maximum length of prompt and answer, in tokens; null for the model's context length.</summary>
    public int? MaxPositions { get; init; }

    /// <summary>Temperature; 0 for greedy decoding.</summary>
    public double Temperature { get; init; }

    /// <summary>Nucleus sampling (top-p): keep the smallest set of tokens with at least this total probability; 1 for all.</summary>
    public double TopP { get; init; } = 1;

    /// <summary>Top-k sampling: keep this many of the most likely tokens; 0 for all.</summary>
    public int TopK { get; init; }

    /// <summary>
    /// Min-p sampling: keep tokens at least this fraction as likely as the most likely one (Nguyen et al., 2024); 0 for all.
    /// </summary>
    public double MinP { get; init; }

    /// <summary>
    /// Repetition penalty: logits of tokens already in the prompt or the text are divided by it, or multiplied if negative (Keskar et al.,
    /// 2019, as in transformers); 1 for none.
    /// </summary>
    public double RepetitionPenalty { get; init; } = 1;

    /// <summary>Presence penalty, as OpenAI's: what is subtracted from the logit of each token that was generated; 0 for none.</summary>
    public double PresencePenalty { get; init; }

    /// <summary>Frequency penalty, as OpenAI's: what is subtracted from a token's logit for each time that it was generated; 0 for none.</summary>
    public double FrequencyPenalty { get; init; }

    /// <summary>What is added to the logits of some tokens; negative infinity for tokens that must not come, empty for none.</summary>
    public IReadOnlyDictionary<int, float> LogitBias { get; init; } = ReadOnlyDictionary<int, float>.Empty;

    /// <summary>Random seed of the sampling.</summary>
    public long Seed { get; init; } = 42;

    /// <summary>
    /// Whether results have the log-probabilities of the sampled tokens: of the distribution after penalties, biases, a constraint and the temperature (1 where
    /// decoding is greedy), before top-k, top-p and min-p.
    /// </summary>
    public bool LogProbs { get; init; }

    /// <summary>
    /// Number of the most likely tokens that a result of <see cref="Engine.TextEngine"/> has with their log-probabilities, of the same distribution; 0 for
    /// none. With it, results have the log-probabilities of the sampled tokens too.
    /// </summary>
    public int TopLogProbs { get; init; }

    /// <summary>Whether log-probabilities are those of the draw itself: after top-k, top-p and min-p, and of the likeliest token alone where decoding is greedy.</summary>
    public bool LogProbsOfDraw { get; init; }

    /// <summary>Number of the first text for its random numbers, where texts are generated in several batches.</summary>
    public int FirstText { get; init; }

    /// <summary>Tokens that end a text.</summary>
    public IReadOnlyList<int> EndTokens { get; init; } = [];

    /// <summary>Throws if a setting is out of range.</summary>
    /// <exception cref="ArgumentOutOfRangeException">It is; the message names it and what is possible.</exception>
    internal void Require()
    {
        Check(MaxNewTokens >= 1, MaxNewTokens, nameof(MaxNewTokens), "at least 1");
        Check(MaxPositions is null or >= 1, MaxPositions, nameof(MaxPositions), "at least 1, or null for the model's context length");
        Check(Temperature is >= 0 and < double.PositiveInfinity, Temperature, nameof(Temperature), "0 (greedy decoding) or more");
        Check(TopP is > 0 and <= 1, TopP, nameof(TopP), "above 0 and at most 1 (all tokens)");
        Check(TopK >= 0, TopK, nameof(TopK), "0 (all tokens) or more");
        Check(MinP is >= 0 and <= 1, MinP, nameof(MinP), "between 0 and 1");
        Check(double.IsFinite(PresencePenalty), PresencePenalty, nameof(PresencePenalty), "a number");
        Check(double.IsFinite(FrequencyPenalty), FrequencyPenalty, nameof(FrequencyPenalty), "a number");
        Check(TopLogProbs >= 0, TopLogProbs, nameof(TopLogProbs), "0 (none) or more");
        Check(!LogitBias.Values.Any(static b => float.IsNaN(b) || float.IsPositiveInfinity(b)), "not a number, or infinite", nameof(LogitBias), "numbers, or negative infinity for tokens that must not come");
        Check(RepetitionPenalty is > 0 and < double.PositiveInfinity, RepetitionPenalty, nameof(RepetitionPenalty), "above 0");
    }

    private static void Check(bool isRight, object? value, string name, string possible)
    {
        if (!isRight)
        {
            throw new ArgumentOutOfRangeException(name, value, string.Create(CultureInfo.InvariantCulture, $"{name} is {value}; it must be {possible}."));
        }
    }
}
