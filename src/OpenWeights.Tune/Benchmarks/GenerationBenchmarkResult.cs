namespace OpenWeights.Tune.Benchmarks;

/// <summary>What a generation benchmark measured.</summary>
/// <param name="PromptTokensPerSecond">Tokens of all prompts over the median seconds from the start to the first new tokens.</param>
/// <param name="DecodeTokensPerSecond">New tokens of all texts over the seconds that the median step takes.</param>
/// <param name="PromptSeconds">The median seconds from the start to the first new tokens.</param>
/// <param name="StepSeconds">The median seconds from a token of each text to the next.</param>
/// <param name="PeakMemoryBytes">The most physical memory that the process has held.</param>
public sealed record GenerationBenchmarkResult(
    double PromptTokensPerSecond, double DecodeTokensPerSecond, double PromptSeconds, double StepSeconds, long PeakMemoryBytes);
