using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Schedules;

/// <summary>The settings of a run's schedule.</summary>
internal static class RunRates
{
    /// <summary>The settings of a run.</summary>
    /// <param name="training">The config.</param>
    /// <param name="totalSteps">Number of steps of the run.</param>
    internal static RateSettings Of(TrainingSection training, long totalSteps)
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
            Waves = training.LrNumCycles,
            StableSteps = training.LrStableSteps,
            WarmupType = training.LrWarmupType,
            DecayType = training.LrDecayType,
            Timescale = training.LrTimescale,
            WarmupRate = training.WarmupLrRate,
        };
    }

    /// <summary>Default number of warmup steps: ten, and at most a tenth of the run.</summary>
    /// <param name="totalSteps">Number of steps of the run.</param>
    internal static long DefaultWarmup(long totalSteps) => Math.Min(10, totalSteps / 10);
}
