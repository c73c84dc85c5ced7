namespace OpenWeights.Tune.Training.Schedules;

/// <summary>Warm-up, the full rate, and at the end half a cosine down to the least rate (Hu et al., 2024; transformers' warmup_stable_decay).</summary>
public sealed class StableDecaySchedule : IRateSchedule
{
    /// <inheritdoc/>
    public string Name => "warmup_stable_decay";

    /// <inheritdoc/>
    public double Factor(long step, RateSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        var decay = settings.DecaySteps ?? Math.Max(1, settings.TotalSteps / 10);
        var into = step - (settings.TotalSteps - decay);
        return into <= 0 ? 1 : settings.Lifted(0.5 * (1 + Math.Cos(Math.PI * Math.Min(1, (double)into / decay))));
    }
}
