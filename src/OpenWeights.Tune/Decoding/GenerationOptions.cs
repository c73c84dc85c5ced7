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

    /// <summary>Random seed of the sampling.</summary>
    public long Seed { get; init; } = 42;

    /// <summary>Whether results have the log-probabilities of the sampled tokens.</summary>
    public bool LogProbs { get; init; }

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
