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

    /// <summary>Tokens that end a text.</summary>
    public IReadOnlyList<int> EndTokens { get; init; } = [];
}
