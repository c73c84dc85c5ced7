using System.Diagnostics;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks;

/// <summary>Times the generator on random prompts: how fast prompts are read, and how fast tokens come after them.</summary>
public static class GenerationBenchmark
{
    private const long Seed = 42;

    /// <summary>A Llama with random weights.</summary>
    /// <param name="shape">Its sizes.</param>
    /// <param name="dtype">The dtype of its weights.</param>
    /// <param name="device">Where it is.</param>
    /// <exception cref="InvalidDataException">The sizes do not go together.</exception>
    public static CausalLanguageModel RandomModel(ModelShape shape, ScalarType dtype, Device device)
    {
        var json = FamilyRegistry.Find("llama", "the benchmark").NewConfig(shape);
        var config = FamilyRegistry.Read(json, "the benchmark's sizes");
        Devices.ChooseProducts(device, dtype);
        using var source = new RandomWeightSource(Seed, config.InitializerRange, dtype, device);
        return new CausalLanguageModel(config, source);
    }

    /// <summary>Runs the benchmark.</summary>
    /// <param name="model">The model.</param>
    /// <param name="options">What to run.</param>
    public static GenerationBenchmarkResult Run(CausalLanguageModel model, GenerationBenchmarkOptions options)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(options);
        var random = new Random((int)Seed);
        var prompts = Enumerable.Range(0, options.BatchSize).Select(_ => Enumerable.Range(0, options.PromptLength).Select(_ => random.Next(model.Config.VocabularySize)).ToArray()).ToList();
        var generator = new TextGenerator(model, new GenerationOptions { MaxNewTokens = options.NewTokens });
        var (reading, steps) = (new List<double>(), new List<double>());
        for (var i = 0; i <= options.Repetitions; i++)
        {
            var times = Times(generator, prompts);
            if (i > 0)
            {
                reading.Add(times[0]);
                steps.AddRange(times.Zip(times.Skip(1), static (earlier, later) => later - earlier));
            }
        }

        var (prompt, step) = (Median(reading), Median(steps));
        return new GenerationBenchmarkResult(options.BatchSize * options.PromptLength / prompt, options.BatchSize / step, prompt, step, ProcessMemory.Peak);
    }

    // The seconds after which all texts had their first, second, ... token.
    private static List<double> Times(TextGenerator generator, List<int[]> prompts)
    {
        var (times, start) = (new List<double>(), Stopwatch.GetTimestamp());
        _ = generator.Continue(prompts, (text, _) =>
        {
            if (text == prompts.Count - 1)
            {
                times.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
            }

            return true;
        });
        return times;
    }

    private static double Median(List<double> values)
    {
        values.Sort();
        return values[values.Count / 2];
    }
}

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

/// <summary>What a generation benchmark measured.</summary>
/// <param name="PromptTokensPerSecond">Tokens of all prompts over the median seconds from the start to the first new tokens.</param>
/// <param name="DecodeTokensPerSecond">New tokens of all texts over the seconds that the median step takes.</param>
/// <param name="PromptSeconds">The median seconds from the start to the first new tokens.</param>
/// <param name="StepSeconds">The median seconds from a token of each text to the next.</param>
/// <param name="PeakMemoryBytes">The most physical memory that the process has held.</param>
public sealed record GenerationBenchmarkResult(
    double PromptTokensPerSecond, double DecodeTokensPerSecond, double PromptSeconds, double StepSeconds, long PeakMemoryBytes);
