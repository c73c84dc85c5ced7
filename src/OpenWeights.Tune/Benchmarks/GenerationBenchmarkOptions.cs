namespace OpenWeights.Tune.Benchmarks;

/// <summary>What a generation benchmark runs.</summary>
public sealed record GenerationBenchmarkOptions
{
    /// <summary>The texts that are continued side by side.</summary>
    public required int BatchSize { get; init; }

    /// <summary>Tokens of a prompt.</summary>
    public required int PromptLength { get; init; }

    /// <summary>Tokens that are generated after each prompt, the first included.</summary>
    public required int NewTokens { get; init; }

    /// <summary>How often it is measured, after once that is not.</summary>
    public int Repetitions { get; init; } = 3;
}
