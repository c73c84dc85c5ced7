namespace OpenWeights.Tune.Decoding;

/// <summary>How text is generated.</summary>
public sealed record GenerationOptions
{
    /// <summary>The most tokens to generate.</summary>
    public int MaxNewTokens { get; init; } = 128;

    /// <summary>The longest text with its prompt, in tokens; null for what the model's config allows.</summary>
    public int? MaxPositions { get; init; }

    /// <summary>What scores are divided by before drawing; 0 always takes the best.</summary>
    public double Temperature { get; init; }

    /// <summary>Only the likeliest tokens that together have this probability are drawn from; 1 for all.</summary>
    public double TopP { get; init; } = 1;

    /// <summary>Only this many of the likeliest tokens are drawn from; 0 for all.</summary>
    public int TopK { get; init; }

    /// <summary>Only tokens that are at least this share as likely as the likeliest are drawn from (Nguyen et al., 2024); 0 for all.</summary>
    public double MinP { get; init; }

    /// <summary>What the scores of tokens that are in the prompt or the text already are divided by, or multiplied where they are below zero
    /// (Keskar et al., 2019, as transformers has it); 1 for nothing.</summary>
    public double RepetitionPenalty { get; init; } = 1;

    /// <summary>The seed of what is drawn.</summary>
    public long Seed { get; init; } = 42;

    /// <summary>Tokens that end a text.</summary>
    public IReadOnlyList<int> EndTokens { get; init; } = [];
}
