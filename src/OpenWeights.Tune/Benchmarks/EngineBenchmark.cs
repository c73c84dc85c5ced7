using System.Diagnostics;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Decoding.Engine;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Benchmarks;

/// <summary>Measures a <see cref="TextEngine"/> with clients that each ask for one text after the other, with random prompts.</summary>
internal static class EngineBenchmark
{
    private const int Seed = 42;

    /// <summary>Runs the benchmark.</summary>
    /// <param name="model">The model.</param>
    /// <param name="options">Settings; the batch size is the number of clients, each of which asks for as many texts as there are repetitions, after a warmup.</param>
    public static async Task<EngineBenchmarkResult> RunAsync(CausalLanguageModel model, GenerationBenchmarkOptions options)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(options);
        var clients = options.BatchSize;
        await using var engine = new TextEngine(model, null, new TextEngineOptions { MaxRows = clients, MaxPositions = options.PromptLength + options.NewTokens + 1 });
        var firsts = new List<double>();
        await Ask(engine, model, (-1, options.NewTokens), options, []).ConfigureAwait(false);
        var start = Stopwatch.GetTimestamp();
        await Task.WhenAll(Enumerable.Range(0, clients).Select(async client =>
        {
            for (var i = 0; i < options.Repetitions; i++)
            {
                await Ask(engine, model, ((client * options.Repetitions) + i, options.NewTokens), options, firsts).ConfigureAwait(false);
            }
        })).ConfigureAwait(false);
        var seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        firsts.Sort();
        var status = engine.Status;
        return new EngineBenchmarkResult(clients * options.Repetitions * options.NewTokens / seconds, firsts[firsts.Count / 2], firsts[^1], (double)status.Rows / status.Steps);
    }

    private static async Task Ask(TextEngine engine, CausalLanguageModel model, (int Number, int NewTokens) text, GenerationBenchmarkOptions options, List<double> firsts)
    {
        var random = new Random(Seed + text.Number);
        var prompt = Enumerable.Range(0, options.PromptLength).Select(_ => random.Next(model.Config.VocabularySize)).ToArray();
        var (start, isFirst) = (Stopwatch.GetTimestamp(), true);
        await foreach (var _ in engine.GenerateAsync(new TextRequest(prompt, new GenerationOptions { MaxNewTokens = text.NewTokens })).ConfigureAwait(false))
        {
            if (isFirst)
            {
                isFirst = false;
                lock (firsts)
                {
                    firsts.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
                }
            }
        }
    }
}

/// <summary>What an <see cref="EngineBenchmark"/> found.</summary>
/// <param name="TokensPerSecond">New tokens per second, of all clients together, while prompts are read too.</param>
/// <param name="FirstTokenSeconds">Median time to the first token of a text.</param>
/// <param name="LongestFirstTokenSeconds">The longest time to a first token.</param>
/// <param name="MeanRows">Mean number of texts in a step.</param>
internal sealed record EngineBenchmarkResult(double TokensPerSecond, double FirstTokenSeconds, double LongestFirstTokenSeconds, double MeanRows);
