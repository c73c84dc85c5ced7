namespace OpenWeights.Tune.Training.Schedules;

/// <summary>A power of what is left, down to the least rate (transformers' polynomial decay).</summary>
public sealed class PolynomialSchedule : IRateSchedule
{
    /// <inheritdoc/>
    public string Name => "polynomial";

    /// <inheritdoc/>
    public double Factor(long step, RateSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        return settings.Lifted(Math.Pow(1 - settings.Progress(step), settings.Power));
    }
}
