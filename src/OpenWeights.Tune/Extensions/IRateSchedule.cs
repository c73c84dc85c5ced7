namespace OpenWeights.Tune.Extensions;

/// <summary>
/// A learning rate schedule: a function of the step alone. A class of your own is named in training.lr_scheduler, or handed over in
/// TrainingSection.CustomSchedule; it needs a constructor without parameters, or one that takes the training section.
/// </summary>
public interface IRateSchedule
{
    /// <summary>The name in the config; of an own class that of the class.</summary>
    string Name => GetType().Name;

    /// <summary>Factor of the learning rate after warmup.</summary>
    /// <param name="step">The step, from 0, at or after the end of warmup.</param>
    /// <param name="settings">Settings of the schedule.</param>
    double Factor(long step, RateSettings settings);

    /// <summary>Factor of the learning rate during warmup: it rises from 0 in a line unless the schedule says otherwise.</summary>
    /// <param name="step">The step, from 0, before the end of warmup.</param>
    /// <param name="settings">Settings of the schedule.</param>
    double Warmup(long step, RateSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        return (double)step / Math.Max(1, settings.WarmupSteps);
    }
}
