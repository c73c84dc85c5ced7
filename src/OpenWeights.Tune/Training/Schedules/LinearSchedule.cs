namespace OpenWeights.Tune.Training.Schedules;

/// <summary>Straight down to the least rate.</summary>
public sealed class LinearSchedule : IRateSchedule
{
    /// <inheritdoc/>
    public string Name => "linear";

    /// <inheritdoc/>
    public double Factor(long step, RateSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        return settings.Lifted(1 - settings.Progress(step));
    }
}
