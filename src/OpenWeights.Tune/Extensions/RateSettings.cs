namespace OpenWeights.Tune.Extensions;

/// <summary>Settings of a schedule.</summary>
public sealed record RateSettings
{
    /// <summary>Number of warmup steps.</summary>
    public long WarmupSteps { get; init; }

    /// <summary>Number of steps of the run.</summary>
    public long TotalSteps { get; init; }

    /// <summary>Minimum learning rate, as a fraction of the peak.</summary>
    public double MinFactor { get; init; }

    /// <summary>Number of cosine cycles.</summary>
    public int Cycles { get; init; } = 1;

    /// <summary>Power of the polynomial.</summary>
    public double Power { get; init; } = 1;

    /// <summary>Number of decay steps at the end; null for a tenth of the run.</summary>
    public long? DecaySteps { get; init; }

    /// <summary>Number of waves of a cosine without restarts.</summary>
    public double Waves { get; init; } = 0.5;

    /// <summary>Number of steps at the peak; null for all that warmup and decay leave.</summary>
    public long? StableSteps { get; init; }

    /// <summary>Shape of the warmup of warmup_stable_decay: linear, cosine or 1-sqrt.</summary>
    public string WarmupType { get; init; } = "linear";

    /// <summary>Shape of the decay of warmup_stable_decay: linear, cosine or 1-sqrt.</summary>
    public string DecayType { get; init; } = "cosine";

    /// <summary>Steps that inverse_sqrt's decay is measured in; null for the warmup's.</summary>
    public long? Timescale { get; init; }

    /// <summary>First rate of cosine_warmup_with_min_lr as a fraction of the peak; null for one warmup step's.</summary>
    public double? WarmupRate { get; init; }

    /// <summary>Progress after warmup, from 0 to 1, before a step.</summary>
    /// <param name="step">The step, from 0.</param>
    public double Progress(long step) => Math.Clamp(Reach(step), 0, 1);

    /// <summary>Progress after warmup, which goes beyond 1 after the last step.</summary>
    /// <param name="step">The step, from 0.</param>
    public double Reach(long step) => (double)(step - WarmupSteps) / Math.Max(1, TotalSteps - WarmupSteps);

    /// <summary>Scales a factor from [0, 1] to [minimum, 1].</summary>
    public double Lifted(double factor) => MinFactor + ((1 - MinFactor) * factor);
}
