namespace OpenWeights.Tune.Training.Schedules;

/// <summary>Straight down to zero.</summary>
public sealed class LinearSchedule : IRateSchedule
{
    /// <inheritdoc/>
    public string Name => "linear";

    /// <inheritdoc/>
    public double Factor(double progress) => 1 - progress;
}
