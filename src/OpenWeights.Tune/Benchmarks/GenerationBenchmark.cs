using System.Diagnostics;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks;

/// <summary>Measures generation with random prompts: speed of prompt processing and of decoding.</summary>
internal static class GenerationBenchmark
{
    private const long Seed = 42;

    /// <summary>Creates a model with random weights.</summary>
    /// <param name="shape">Its sizes.</param>
    /// <param name="dtype">Data type of its weights.</param>
    /// <param name="device">Its device.</param>
    /// <param name="family">The model_type of its family.</param>
    /// <param name="quantization">Quantization of the linear layers other than the head; null for none.</param>
    /// <exception cref="InvalidDataException">The sizes are inconsistent.</exception>
    public static CausalLanguageModel RandomModel(ModelShape shape, ScalarType dtype, Device device, string family = "llama", QuantizationSettings? quantization = null)
    {
        var json = FamilyRegistry.Find(family, "the benchmark").NewConfig(shape);
        var config = FamilyRegistry.Read(json, "the benchmark's sizes");
        Devices.ChooseProducts(device, dtype);
        using var source = new RandomWeightSource(Seed, config.InitializerRange, dtype, device) { Quantization = quantization, Head = config.Names.HeadWeight };
        return new CausalLanguageModel(config, source);
    }

    /// <summary>Runs the benchmark.</summary>
    /// <param name="model">The model.</param>
    /// <param name="options">Settings of the benchmark.</param>
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

    // Seconds after which all texts had their first, second, ... token.
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

/// <summary>Settings of a generation benchmark.</summary>
internal sealed record GenerationBenchmarkOptions
{
    /// <summary>Batch size: number of texts.</summary>
    public required int BatchSize { get; init; }

    /// <summary>Prompt length in tokens.</summary>
    public required int PromptLength { get; init; }

    /// <summary>Number of tokens to generate after each prompt, including the first.</summary>
    public required int NewTokens { get; init; }

    /// <summary>Number of measurements, after one warmup.</summary>
    public int Repetitions { get; init; } = 3;
}

/// <summary>Result of a generation benchmark.</summary>
/// <param name="PromptTokensPerSecond">Tokens of all prompts divided by the median time to the first new tokens.</param>
/// <param name="DecodeTokensPerSecond">Tokens of all texts per second, from the median step.</param>
/// <param name="PromptSeconds">Median seconds to the first new tokens.</param>
/// <param name="StepSeconds">Median seconds per decoding step.</param>
/// <param name="PeakMemoryBytes">Peak physical memory of the process.</param>
internal sealed record GenerationBenchmarkResult(
    double PromptTokensPerSecond, double DecodeTokensPerSecond, double PromptSeconds, double StepSeconds, long PeakMemoryBytes);
