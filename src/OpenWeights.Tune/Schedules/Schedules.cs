namespace OpenWeights.Tune.Schedules;

/// <summary>Constant learning rate.</summary>
public sealed class ConstantSchedule : IRateSchedule
{
    /// <inheritdoc/>
    public string Name => "constant";

    /// <inheritdoc/>
    public double Factor(long step, RateSettings settings) => 1;
}

/// <summary>Linear decay to the minimum.</summary>
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

/// <summary>
/// Cosine decay to the minimum, in one or several cycles (Loshchilov and Hutter, 2017; transformers' cosine_with_restarts).
/// </summary>
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

/// <summary>Polynomial decay to the minimum (transformers' polynomial decay).</summary>
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

/// <summary>
/// Inverse square root decay, 1 at the end of warmup (Vaswani et al., 2017; transformers' inverse_sqrt, with a time scale of 10,000 steps
/// if there is no warmup).
/// </summary>
public sealed class InverseSquareRootSchedule : IRateSchedule
{
    /// <inheritdoc/>
    public string Name => "inverse_sqrt";

    /// <inheritdoc/>
    public double Factor(long step, RateSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        var timescale = settings.WarmupSteps > 0 ? settings.WarmupSteps : 10_000;
        return Math.Max(settings.MinFactor, 1 / Math.Sqrt((double)(step - settings.WarmupSteps + timescale) / timescale));
    }
}

/// <summary>
/// Warmup, constant rate, and cosine decay to the minimum at the end (Hu et al., 2024; transformers' warmup_stable_decay).
/// </summary>
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
