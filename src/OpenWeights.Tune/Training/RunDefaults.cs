using System.Globalization;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Schedules;

namespace OpenWeights.Tune.Training;

/// <summary>Settings that fit themselves to the data where the config leaves them out: a run over few rows should still take a good many steps.</summary>
public static class RunDefaults
{
    /// <summary>A run of fewer steps learns little: each is a small change of the weights.</summary>
    public const long FewSteps = 24;

    // What the settings that are left out aim at.
    private const long WantedSteps = 48;

    /// <summary>Chooses packing, rows at once and warm-up where the config does not.</summary>
    /// <param name="config">The run.</param>
    /// <param name="data">Its rows, packed unless the config says otherwise.</param>
    /// <returns>The run with everything chosen, and its rows as they are then.</returns>
    public static (RunConfig Config, RunData Data) Fit(RunConfig config, RunData data)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(data);
        var isPacked = data.Train.Report.IsPacked;
        var (rows, packs) = Choices(config, isPacked).FirstOrDefault(c => Steps(config, data.Train, c.Rows, c.Packs) >= WantedSteps);
        if (rows == 0)
        {
            (rows, packs) = Choices(config, isPacked).Last();
        }

        var steps = Steps(config, data.Train, rows, packs);
        return (
            config with
            {
                Data = config.Data with { Packing = config.Data.Packing ?? packs },
                Training = config.Training with
                {
                    MicroBatchSize = config.Training.MicroBatchSize ?? rows,
                    WarmupSteps = config.Training.WarmupSteps ?? (config.Training.WarmupRatio is null ? RateSettings.DefaultWarmup(steps) : null),
                },
            },
            isPacked && !packs ? data with { Train = data.Train.Unpacked() } : data);
    }

    /// <summary>What is left out of a config that goes on with a run, as it was when the run was started.</summary>
    /// <param name="config">The config.</param>
    /// <param name="started">The config that the run was started with, every setting in it.</param>
    internal static RunConfig Continue(RunConfig config, RunConfig started)
    {
        var training = config.Training;
        var ofStep = (long)started.Training.RowsAtOnce * started.Training.GradientAccumulationSteps;
        var rows = training.MicroBatchSize
            ?? (ofStep % training.GradientAccumulationSteps == 0 ? (int)(ofStep / training.GradientAccumulationSteps) : started.Training.RowsAtOnce);
        return config with
        {
            Data = config.Data with { Packing = config.Data.Packing ?? started.Data.Packing },
            Training = training with { MicroBatchSize = rows, WarmupSteps = training.WarmupSteps ?? (training.WarmupRatio is null ? started.Training.WarmupSteps : null) },
        };
    }

    /// <summary>What to change in a run that has only a few steps because of its settings; null where it has enough, or was asked for so many.</summary>
    /// <param name="plan">The run.</param>
    public static string? Advice(RunPlan plan)
    {
        ArgumentNullException.ThrowIfNull(plan);
        var training = plan.Config.Training;
        if (training.MaxSteps is not null || plan.TotalSteps >= FewSteps)
        {
            return null;
        }

        var ofStep = training.RowsAtOnce * training.GradientAccumulationSteps;
        var epochs = Math.Ceiling(training.Epochs * WantedSteps / plan.TotalSteps);
        List<string> changes =
        [
            .. ofStep > 1 ? [$"{(training.GradientAccumulationSteps > 1 ? "training.gradient_accumulation_steps" : "training.micro_batch_size")} lower"] : Array.Empty<string>(),
            .. plan.Config.Data.Packs && plan.Train.Used > plan.Train.PackedRows ? ["data.packing=false"] : Array.Empty<string>(),
            string.Create(CultureInfo.InvariantCulture, $"training.epochs={epochs:0}"),
        ];
        return string.Create(
            CultureInfo.InvariantCulture,
            $"the run has only {plan.TotalSteps} {(plan.TotalSteps == 1 ? "step" : "steps")}, of {ofStep} {(plan.Config.Data.Packs ? "packed " : "")}{(ofStep == 1 ? "row" : "rows")} each, and will learn little; a few dozen steps are better: {string.Join(", or ", changes)}.");
    }

    // From what runs fastest to what takes most steps.
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

    /// <summary>The steps of a run.</summary>
    /// <param name="training">The settings.</param>
    /// <param name="stepsPerEpoch">Steps of an epoch.</param>
    internal static long TotalSteps(TrainingSection training, long stepsPerEpoch) => training.MaxSteps ?? Math.Max(1, (long)Math.Ceiling(training.Epochs * stepsPerEpoch));
}
