namespace OpenWeights.Tune.Training.Schedules;

/// <summary>Half a cosine down to the least rate, once or several times from the top (Loshchilov and Hutter, 2017; transformers' cosine_with_restarts).</summary>
public sealed class CosineSchedule : IRateSchedule
{
    /// <inheritdoc/>
    public string Name => "cosine";

    /// <inheritdoc/>
    public double Factor(long step, RateSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        var progress = settings.Progress(step);
        return settings.Lifted(progress >= 1 ? 0 : 0.5 * (1 + Math.Cos(Math.PI * (settings.Cycles * progress % 1))));
    }
}
