namespace OpenWeights.Tune.Training.Schedules;

/// <summary>The same rate throughout.</summary>
public sealed class ConstantSchedule : IRateSchedule
{
    /// <inheritdoc/>
    public string Name => "constant";

    /// <inheritdoc/>
    public double Factor(long step, RateSettings settings) => 1;
}
