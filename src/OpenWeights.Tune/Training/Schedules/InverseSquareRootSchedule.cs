namespace OpenWeights.Tune.Training.Schedules;

/// <summary>One over the square root of the step, 1 at the end of warm-up (Vaswani et al., 2017; transformers' inverse_sqrt, without warm-up over 10,000 steps).</summary>
public sealed class InverseSquareRootSchedule : IRateSchedule
{
    /// <inheritdoc/>
    public string Name => "inverse_sqrt";

    /// <inheritdoc/>
    public double Factor(long step, RateSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        var timescale = settings.WarmupSteps > 0 ? settings.WarmupSteps : 10_000;
        return Math.Max(settings.LeastFactor, 1 / Math.Sqrt((double)(step - settings.WarmupSteps + timescale) / timescale));
    }
}
