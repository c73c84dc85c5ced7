using System.Diagnostics;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Torch.Memory;
using OpenWeights.Tune.Training;
using OpenWeights.Tune.Training.Ranks;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks;

/// <summary>Measures the trainer's step, including the optimizer, with random weights and tokens.</summary>
internal static class TrainingBenchmark
{
    private const long Seed = 42;

    /// <summary>Runs the benchmark.</summary>
    /// <param name="options">Settings of the benchmark.</param>
    /// <param name="stop">Cancels between steps, without a result.</param>
    /// <exception cref="InvalidDataException">The sizes are inconsistent.</exception>
    /// <exception cref="OperationCanceledException">The benchmark was cancelled.</exception>
    public static TrainingBenchmarkResult Run(TrainingBenchmarkOptions options, CancellationToken stop = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        using var model = GenerationBenchmark.RandomModel(options.Shape, options.DType, options.Device, options.Family, options.Quantization);
        using var trained = new BenchmarkModel(model, options.Rank, options.Optimizer);
        var config = new RunConfig
        {
            Seed = Seed,
            Training = new TrainingSection
            {
                MicroBatchSize = options.BatchSize,
                Optimizer = options.Optimizer,
                LrScheduler = "constant",
                WarmupSteps = 0,
                LearningRate = 1e-4,
                ActivationCheckpointing = options.ActivationCheckpointing,
            },
            Parallel = new ParallelSection { Shard = options.Shard },
        };
        var (total, ranks) = (options.WarmupSteps + options.Steps, options.Ranks?.Group ?? RankGroup.Alone);
        var rows = new BatchSampler(RandomRows(options, total * options.BatchSize * ranks.Size), shuffle: false, Seed, options.BatchSize, accumulation: ranks.Size);
        using var trainer = new Trainer(trained, new SupervisedObjective(), rows, config, total, ranks);

        // The peak of the steps, not that of making the model.
        CpuMemory.ResetPeak();
        var (seconds, updates, waits, rates, shares, loss) = (new List<double>(), new List<double>(), new List<double>(), new List<double>(), new List<double>(), 0.0);
        var operations = OperationsPerToken(trained, options) * options.BatchSize * options.RowLength;
        for (var i = 0; i < total; i++)
        {
            stop.ThrowIfCancellationRequested();
            ranks.Meet();
            var started = Stopwatch.GetTimestamp();
            var step = trainer.Step();

            // A GPU may still be computing the optimizer step.
            Devices.Wait(options.Device);
            var taken = Stopwatch.GetElapsedTime(started).TotalSeconds;
            (loss, var waited) = (step.Loss, step.CommunicationSeconds ?? 0);
            if (i >= options.WarmupSteps)
            {
                // The matrix rate is measured next to each step: on a shared machine, speed varies more between steps than between runs.
                var rate = MatrixRate.Measure(options.DType, options.Device);
                seconds.Add(taken);
                updates.Add(step.UpdateSeconds);
                waits.Add(waited);
                rates.Add(rate);
                shares.Add(operations / taken / rate);
            }
        }

        var median = Median(seconds);
        var state = trainer.Optimizer.State.Sum(static s => s.State.numel() * s.State.element_size());
        var estimate = MemoryEstimate.Of(
            trained, options.BatchSize, options.RowLength, state, accumulates: false, config.Training.Checkpointing, isRun: false);
        return new TrainingBenchmarkResult(options.BatchSize * ranks.Size * options.RowLength / median, ProcessMemory.Peak, CpuMemory.Statistics?.Peak, estimate.Total, loss, median, Median(updates), Median(rates), Median(shares))
        {
            CommunicationSeconds = Median(waits),
            OptimizerBytes = state,
            TrainedParameters = trained.Parameters.Sum(static p => p.Parameter.numel()),
        };
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
        var matrices = model.LinearLayers.Sum(static l => l.Layer.OutFeatures * l.Layer.InFeatures) + (model.Config.TiedEmbeddings ? model.Head.Weight.numel() : 0);
        var attention = 12.0 * options.RowLength * model.Config.HeadCount * model.Config.HeadDimension * model.Config.LayerCount;
        return (options.Rank is null ? 6.0 * matrices : (4.0 * matrices) + (6.0 * trained.Parameters.Sum(static p => p.Parameter.numel()))) + attention;
    }
}

/// <summary>Settings of a training benchmark.</summary>
internal sealed record TrainingBenchmarkOptions
{
    /// <summary>The model_type of the model's family.</summary>
    public string Family { get; init; } = "llama";

    /// <summary>Sizes of the model, which has random weights.</summary>
    public required ModelShape Shape { get; init; }

    /// <summary>Row length in tokens.</summary>
    public required int RowLength { get; init; }

    /// <summary>The ranks that compute each step; null for one process.</summary>
    public RunRanks? Ranks { get; init; }

    /// <summary>What the ranks share out, as parallel.shard.</summary>
    public string Shard { get; init; } = "none";

    /// <summary>Rows per step, of each rank.</summary>
    public required int BatchSize { get; init; }

    /// <summary>Rank of a LoRA adapter on all linear layers; null for full fine-tuning.</summary>
    public int? Rank { get; init; }

    /// <summary>Quantization of the frozen linear layers other than the head; null for none.</summary>
    public QuantizationSettings? Quantization { get; init; }

    /// <summary>Data type of the model's weights.</summary>
    public ScalarType DType { get; init; } = float32;

    /// <summary>Device.</summary>
    public Device Device { get; init; } = CPU;

    /// <summary>Activation checkpointing, by its name in a config.</summary>
    public string ActivationCheckpointing { get; init; } = "none";

    /// <summary>Optimizer, by its name in a config.</summary>
    public string Optimizer { get; init; } = "adamw";

    /// <summary>Number of measured steps.</summary>
    public int Steps { get; init; } = 8;

    /// <summary>Number of warmup steps.</summary>
    public int WarmupSteps { get; init; } = 2;
}

/// <summary>Result of a training benchmark.</summary>
/// <param name="TokensPerSecond">Tokens per second of the median step.</param>
/// <param name="PeakMemoryBytes">Peak physical memory of the process.</param>
/// <param name="PeakTensorBytes">Peak of the large tensors within it, including weights; null if unknown.</param>
/// <param name="EstimatedMemoryBytes">Estimated memory.</param>
/// <param name="Loss">Loss of the last step.</param>
/// <param name="StepSeconds">Seconds of the median step.</param>
/// <param name="UpdateSeconds">Seconds of gradient norm and optimizer step within it (median).</param>
/// <param name="MatrixRate">Speed of matrix multiplication in the model's dtype, in floating-point operations per second.</param>
/// <param name="Utilization">
/// Useful operations per second relative to <paramref name="MatrixRate"/>: per token, 6 operations for each trained and 4 for each frozen matrix
/// parameter, and 12 x tokens x width per layer for attention; recomputation is not counted.
/// </param>
internal sealed record TrainingBenchmarkResult(
    double TokensPerSecond, long PeakMemoryBytes, long? PeakTensorBytes, long EstimatedMemoryBytes, double Loss, double StepSeconds, double UpdateSeconds, double MatrixRate, double Utilization)
{
    /// <summary>Several ranks: seconds of the median step in which the first rank only communicated.</summary>
    public double CommunicationSeconds { get; init; }

    /// <summary>Bytes of the optimizer's state.</summary>
    public long OptimizerBytes { get; init; }

    /// <summary>Number of trained parameters.</summary>
    public long TrainedParameters { get; init; }
}
