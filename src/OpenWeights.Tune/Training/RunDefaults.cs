using System.Globalization;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Schedules;

namespace OpenWeights.Tune.Training;

/// <summary>Defaults that depend on the amount of data: a run over few rows should still have enough steps.</summary>
internal static class RunDefaults
{
    /// <summary>Recommended minimum number of steps.</summary>
    public const long FewSteps = 24;

    // Number of steps that the defaults aim at.
    private const long WantedSteps = 48;

    /// <summary>Chooses packing, micro-batch size and warmup if the config does not set them.</summary>
    /// <param name="config">The run.</param>
    /// <param name="data">Its rows, packed unless the config disables it.</param>
    /// <param name="ranks">Number of ranks.</param>
    /// <returns>The run with all settings chosen, and its rows accordingly.</returns>
    public static (RunConfig Config, RunData Data) Fit(RunConfig config, RunData data, int ranks = 1)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(data);
        if (SampledRun.Plan(config, data, ranks) is { } sampling)
        {
            return (OfSamples(config, data, sampling), data);
        }

        var isPacked = data.Train.Report.IsPacked;
        var (rows, packs) = Choices(config, isPacked).FirstOrDefault(c => Steps(config, data.Train, c.Rows * ranks, c.Packs) >= WantedSteps);
        if (rows == 0)
        {
            (rows, packs) = Choices(config, isPacked).Last();
        }

        var steps = Steps(config, data.Train, rows * ranks, packs);
        return (
            config with
            {
                Data = config.Data with { Packing = config.Data.Packing ?? packs },
                Training = config.Training with
                {
                    MicroBatchSize = config.Training.MicroBatchSize ?? rows,
                    LrScheduler = config.Training.Schedule,
                    WarmupSteps = config.Training.WarmupSteps ?? (config.Training.WarmupRatio is null ? RunRates.DefaultWarmup(steps) : null),
                },
            },
            isPacked && !packs ? data with { Train = data.Train.Unpacked() } : data);
    }

    // Micro-batches of whole groups; rows are not packed.
    private static RunConfig OfSamples(RunConfig config, RunData data, Objectives.SamplingPlan plan)
    {
        var steps = TotalSteps(config.Training, SampledRun.Rows(config, data, plan).StepsPerEpoch);
        return config with
        {
            Data = config.Data with { Packing = false },
            Training = config.Training with
            {
                MicroBatchSize = plan.MicroBatch,
                LrScheduler = config.Training.Schedule,
                WarmupSteps = config.Training.WarmupSteps ?? (config.Training.WarmupRatio is null ? RunRates.DefaultWarmup(steps) : null),
            },
        };
    }

    /// <summary>
    /// Fills in settings omitted by the config of a resumed run with those it was started with. A config that has not changed keeps the rows of its steps with
    /// another number of ranks.
    /// </summary>
    /// <param name="config">The config.</param>
    /// <param name="started">The complete config that the run was started with.</param>
    /// <param name="ranks">Number of ranks that the run was started with, and now.</param>
    internal static RunConfig Continue(RunConfig config, RunConfig started, (int Before, int Now) ranks)
    {
        var training = config.Training;
        var ofStep = (long)started.Training.RowsAtOnce * started.Training.GradientAccumulationSteps * ranks.Before;
        if (ranks.Before != ranks.Now && ofStep % ranks.Now == 0 && (training.MicroBatchSize ?? started.Training.RowsAtOnce) == started.Training.RowsAtOnce && training.GradientAccumulationSteps == started.Training.GradientAccumulationSteps)
        {
            var (ofRank, most) = (ofStep / ranks.Now, (int)Math.Min(started.Training.RowsAtOnce, ofStep / ranks.Now));
            var size = Enumerable.Range(0, most).Select(i => most - i).First(n => ofRank % n == 0);
            training = training with { MicroBatchSize = size, GradientAccumulationSteps = (int)(ofRank / size) };
        }

        var accumulation = training.GradientAccumulationSteps * ranks.Now;
        var rows = training.MicroBatchSize ?? (ofStep % accumulation == 0 ? (int)(ofStep / accumulation) : started.Training.RowsAtOnce);
        return config with
        {
            Data = config.Data with { Packing = config.Data.Packing ?? started.Data.Packing },
            Training = training with { MicroBatchSize = rows, LrScheduler = training.LrScheduler ?? started.Training.LrScheduler, WarmupSteps = training.WarmupSteps ?? (training.WarmupRatio is null ? started.Training.WarmupSteps : null) },
        };
    }

    /// <summary>
    /// Suggests changes for a run whose settings allow only a few steps; null if it has enough, or so few were requested.
    /// </summary>
    /// <param name="plan">The run.</param>
    public static string? Advice(RunPlan plan)
    {
        ArgumentNullException.ThrowIfNull(plan);
        var training = plan.Config.Training;
        if (training.MaxSteps is not null || plan.TotalSteps >= FewSteps)
        {
            return null;
        }

        var ofStep = training.RowsAtOnce * training.GradientAccumulationSteps * plan.Ranks;
        var epochs = Math.Ceiling(training.Epochs * WantedSteps / plan.TotalSteps);
        List<string> changes =
        [
            .. ofStep > 1 ? [$"{(training.GradientAccumulationSteps > 1 ? "training.gradient_accumulation_steps" : "training.micro_batch_size")} lower"] : Array.Empty<string>(),
            .. plan.Config.Data.Packs && plan.Train.Used > plan.Train.PackedRows ? ["data.packing=false"] : Array.Empty<string>(),
            string.Create(CultureInfo.InvariantCulture, $"training.epochs={epochs:0}"),
        ];
        return string.Create(
            CultureInfo.InvariantCulture,
            $"the run has only {plan.TotalSteps} {(plan.TotalSteps == 1 ? "step" : "steps")}, of {ofStep} {(plan.Config.Data.Packs ? "packed " : "")}{(ofStep == 1 ? "row" : "rows")} each, which is too few to learn much; a few dozen steps are better: {string.Join(", or ", changes)}.");
    }

    // From the fastest to the one with the most steps.
    private static IEnumerable<(int Rows, bool Packs)> Choices(RunConfig config, bool isPacked)
    {
        var rows = config.Training.RowsAtOnce;
        yield return (rows, isPacked);
        var packs = isPacked && config.Data.Packing is not null;
        if (isPacked != packs)
        {
            yield return (rows, packs);
        }

        for (rows /= 2; rows > 0 && config.Training.MicroBatchSize is null; rows /= 2)
        {
            yield return (rows, packs);
        }
    }

    private static long Steps(RunConfig config, DataSet train, int rows, bool packs)
    {
        var training = config.Training;
        var count = packs ? train.Rows.Count : train.Documents.Count;
        var ofStep = (long)rows * training.GradientAccumulationSteps;
        return training.MaxSteps ?? TotalSteps(training, (count + ofStep - 1) / ofStep);
    }

    /// <summary>Number of steps of a run.</summary>
    /// <param name="training">The settings.</param>
    /// <param name="stepsPerEpoch">Steps per epoch.</param>
    internal static long TotalSteps(TrainingSection training, long stepsPerEpoch) => training.MaxSteps ?? Math.Max(1, (long)Math.Ceiling(training.Epochs * stepsPerEpoch));
}
