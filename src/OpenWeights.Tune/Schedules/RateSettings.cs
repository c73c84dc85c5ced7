using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Schedules;

/// <summary>What a schedule is made of.</summary>
public sealed record RateSettings
{
    /// <summary>Steps of warm-up.</summary>
    public long WarmupSteps { get; init; }

    /// <summary>Steps of the run.</summary>
    public long TotalSteps { get; init; }

    /// <summary>The least rate, as a share of the highest.</summary>
    public double MinFactor { get; init; }

    /// <summary>How often the cosine is gone through.</summary>
    public int Cycles { get; init; } = 1;

    /// <summary>The power of the polynomial.</summary>
    public double Power { get; init; } = 1;

    /// <summary>Steps of the decay at the end; null for a tenth of the run.</summary>
    public long? DecaySteps { get; init; }

    /// <summary>The settings of a run.</summary>
    /// <param name="training">The config.</param>
    /// <param name="totalSteps">Steps of the run.</param>
    public static RateSettings Of(TrainingSection training, long totalSteps)
    {
        ArgumentNullException.ThrowIfNull(training);
        return new RateSettings
        {
            WarmupSteps = training.WarmupRatio is { } ratio ? (long)Math.Ceiling(ratio * totalSteps) : training.WarmupSteps ?? DefaultWarmup(totalSteps),
            TotalSteps = totalSteps,
            MinFactor = training.MinLrRatio,
            Cycles = training.LrCycles,
            Power = training.LrPower,
            DecaySteps = training.LrDecaySteps,
        };
    }

    /// <summary>Steps of warm-up where nothing is said of it: ten, and at most a tenth of the run.</summary>
    /// <param name="totalSteps">Steps of the run.</param>
    public static long DefaultWarmup(long totalSteps) => Math.Min(10, totalSteps / 10);

    /// <summary>How much of the steps after warm-up is done before a step, from 0 to 1.</summary>
    /// <param name="step">The step, from 0.</param>
    public double Progress(long step) => Math.Clamp((double)(step - WarmupSteps) / Math.Max(1, TotalSteps - WarmupSteps), 0, 1);

    /// <summary>A factor between 0 and 1 put between the least and 1.</summary>
    public double Lifted(double factor) => MinFactor + ((1 - MinFactor) * factor);
}
