using System.Diagnostics;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Torch.Memory;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks;

/// <summary>Times the trainer's own step, optimizer included, on random weights and tokens.</summary>
public static class TrainingBenchmark
{
    private const long Seed = 42;

    /// <summary>Runs the benchmark.</summary>
    /// <param name="options">What to run.</param>
    /// <param name="stop">Ends it between two steps, without a result.</param>
    /// <exception cref="InvalidDataException">The sizes do not go together.</exception>
    /// <exception cref="OperationCanceledException">It was stopped.</exception>
    public static TrainingBenchmarkResult Run(TrainingBenchmarkOptions options, CancellationToken stop = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        using var model = GenerationBenchmark.RandomModel(options.Shape, options.DType, options.Device);
        using var trained = new BenchmarkModel(model, options.Rank);
        var config = new RunConfig
        {
            Seed = Seed,
            Training = new TrainingSection
            {
                MicroBatchSize = options.BatchSize,
                LrScheduler = "constant",
                WarmupSteps = 0,
                LearningRate = 1e-4,
                ActivationCheckpointing = options.ActivationCheckpointing,
            },
        };
        var total = options.WarmupSteps + options.Steps;
        var rows = new BatchSampler(RandomRows(options, total * options.BatchSize), shuffle: false, Seed, options.BatchSize, accumulation: 1);
        using var trainer = new Trainer(trained, new SupervisedObjective(), rows, config, total);
        var (seconds, updates, rates, shares, loss) = (new List<double>(), new List<double>(), new List<double>(), new List<double>(), 0.0);
        var operations = OperationsPerToken(trained, options) * options.BatchSize * options.RowLength;
        for (var i = 0; i < total; i++)
        {
            stop.ThrowIfCancellationRequested();
            var started = Stopwatch.GetTimestamp();
            var step = trainer.Step();

            // A GPU may still be at the optimizer's part.
            Devices.Wait(options.Device);
            var taken = Stopwatch.GetElapsedTime(started).TotalSeconds;
            loss = step.Loss;
            if (i >= options.WarmupSteps)
            {
                // The limit is measured next to each step: a machine that is not alone swings between steps more than between runs.
                var rate = MatrixRate.Measure(options.DType, options.Device);
                seconds.Add(taken);
                updates.Add(step.UpdateSeconds);
                rates.Add(rate);
                shares.Add(operations / taken / rate);
            }
        }

        var median = Median(seconds);
        var estimate = MemoryEstimate.Of(
            trained, options.BatchSize, options.RowLength, trainer.Optimizer.State.Sum(static s => s.State.numel() * s.State.element_size()), accumulates: false, config.Training.Checkpointing, isRun: false);
        return new TrainingBenchmarkResult(options.BatchSize * options.RowLength / median, ProcessMemory.Peak, CpuMemory.Statistics?.Peak, estimate.Total, loss, median, Median(updates), Median(rates), Median(shares));
    }

    private static double Median(List<double> values)
    {
        values.Sort();
        return values[values.Count / 2];
    }

    private static List<TokenRow> RandomRows(TrainingBenchmarkOptions options, int count)
    {
        var random = new Random((int)Seed);
        return
        [
            .. Enumerable.Range(0, count).Select(i =>
            {
                var ids = new int[options.RowLength];
                for (var t = 0; t < ids.Length; t++)
                {
                    ids[t] = random.Next(options.Shape.VocabularySize);
                }

                return new TokenRow(ids, ids, $"random row {i + 1}");
            }),
        ];
    }

    private static double OperationsPerToken(BenchmarkModel trained, TrainingBenchmarkOptions options)
    {
        var model = trained.Model;
        var matrices = model.LinearLayers.Sum(static l => l.Layer.Weight.numel()) + (model.Config.TiedEmbeddings ? model.Head.Weight.numel() : 0);
        var attention = 12.0 * options.RowLength * model.Config.HeadCount * model.Config.HeadDimension * model.Config.LayerCount;
        return (options.Rank is null ? 6.0 * matrices : (4.0 * matrices) + (6.0 * trained.Parameters.Sum(static p => p.Parameter.numel()))) + attention;
    }
}

/// <summary>What a training benchmark runs.</summary>
public sealed record TrainingBenchmarkOptions
{
    /// <summary>The sizes of the model, a Llama with random weights.</summary>
    public required ModelShape Shape { get; init; }

    /// <summary>Tokens of a row.</summary>
    public required int RowLength { get; init; }

    /// <summary>Rows of a step.</summary>
    public required int BatchSize { get; init; }

    /// <summary>The rank of a LoRA adapter on all linear layers; null trains all weights.</summary>
    public int? Rank { get; init; }

    /// <summary>The dtype of the model's weights.</summary>
    public ScalarType DType { get; init; } = float32;

    /// <summary>Where to train.</summary>
    public Device Device { get; init; } = CPU;

    /// <summary>What of layers is computed again in backward, by its name in a config.</summary>
    public string ActivationCheckpointing { get; init; } = "none";

    /// <summary>The steps that are measured.</summary>
    public int Steps { get; init; } = 8;

    /// <summary>The steps before those.</summary>
    public int WarmupSteps { get; init; } = 2;
}

/// <summary>What a training benchmark measured.</summary>
/// <param name="TokensPerSecond">Tokens of a step over the median step's seconds.</param>
/// <param name="PeakMemoryBytes">The most physical memory that the process has held.</param>
/// <param name="PeakTensorBytes">Of it, the most that large tensors took at once, weights included; null where that is not known.</param>
/// <param name="EstimatedMemoryBytes">What was to be expected of it.</param>
/// <param name="Loss">The loss of the last step.</param>
/// <param name="StepSeconds">The median step.</param>
/// <param name="UpdateSeconds">Of it, the median of the gradients' norm and the optimizer's step.</param>
/// <param name="MatrixRate">How fast the machine multiplies matrices of the model's dtype, in floating-point operations per second.</param>
/// <param name="Utilization">
/// Useful operations per second over <paramref name="MatrixRate"/>: 6 a matrix parameter and token where it is trained, 4 where it is
/// frozen, and 12 x tokens x width a token and layer for attention; recomputation is not counted.
/// </param>
public sealed record TrainingBenchmarkResult(
    double TokensPerSecond, long PeakMemoryBytes, long? PeakTensorBytes, long EstimatedMemoryBytes, double Loss, double StepSeconds, double UpdateSeconds, double MatrixRate, double Utilization);
