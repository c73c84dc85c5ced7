using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Schedules;

/// <summary>Constant learning rate.</summary>
internal sealed class ConstantSchedule : IRateSchedule
{
    /// <inheritdoc/>
    public string Name => "constant";

    /// <inheritdoc/>
    public double Factor(long step, RateSettings settings) => 1;
}

/// <summary>Linear decay to the minimum.</summary>
internal sealed class LinearSchedule : IRateSchedule
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
/// Cosine decay to the minimum, in half a wave or another number of waves (transformers' cosine and cosine_with_min_lr); with several cycles
/// as <see cref="RestartSchedule"/>.
/// </summary>
internal sealed class CosineSchedule : IRateSchedule
{
    /// <inheritdoc/>
    public string Name => "cosine";

    /// <inheritdoc/>
    public double Factor(long step, RateSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        return settings.Cycles > 1 ? RestartSchedule.Of(step, settings) : settings.Lifted(0.5 * (1 + Math.Cos(Math.PI * settings.Waves * 2 * settings.Reach(step))));
    }
}

/// <summary>Cosine decay to the minimum in cycles, with a warm restart at the start of each (Loshchilov and Hutter, 2017).</summary>
internal sealed class RestartSchedule : IRateSchedule
{
    /// <inheritdoc/>
    public string Name => "cosine_with_restarts";

    /// <inheritdoc/>
    public double Factor(long step, RateSettings settings) => Of(step, settings);

    internal static double Of(long step, RateSettings settings)
    {
        var progress = settings.Progress(step);
        return settings.Lifted(progress >= 1 ? 0 : 0.5 * (1 + Math.Cos(Math.PI * (settings.Cycles * progress % 1))));
    }
}

/// <summary>Cosine decay to the minimum whose warmup begins above 0 (transformers' cosine_warmup_with_min_lr).</summary>
internal sealed class RaisedCosineSchedule : IRateSchedule
{
    /// <inheritdoc/>
    public string Name => "cosine_warmup_with_min_lr";

    /// <inheritdoc/>
    public double Factor(long step, RateSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        return Math.Max(0, settings.Lifted(0.5 * (1 + Math.Cos(Math.PI * settings.Waves * 2 * settings.Reach(step + 1)))));
    }

    /// <inheritdoc/>
    public double Warmup(long step, RateSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        return settings.WarmupRate is { } first
            ? first + ((1 - first) * step / Math.Max(1, settings.WarmupSteps - 1))
            : (step + 1.0) / Math.Max(1, settings.WarmupSteps);
    }
}

/// <summary>Polynomial decay to the minimum (transformers' polynomial decay).</summary>
internal sealed class PolynomialSchedule : IRateSchedule
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
/// if there is no warmup and none is given).
/// </summary>
internal sealed class InverseSquareRootSchedule : IRateSchedule
{
    /// <inheritdoc/>
    public string Name => "inverse_sqrt";

    /// <inheritdoc/>
    public double Factor(long step, RateSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        var timescale = settings.Timescale ?? (settings.WarmupSteps > 0 ? settings.WarmupSteps : 10_000);
        return Math.Max(settings.MinFactor, 1 / Math.Sqrt((double)(step - settings.WarmupSteps + timescale) / timescale));
    }
}

/// <summary>
/// Warmup from the minimum, constant rate, and decay to the minimum (Hu et al., 2024; transformers' warmup_stable_decay): both in the shape of a
/// line, half a cosine wave or a square root.
/// </summary>
internal sealed class StableDecaySchedule : IRateSchedule
{
    /// <inheritdoc/>
    public string Name => "warmup_stable_decay";

    /// <inheritdoc/>
    public double Factor(long step, RateSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        var decay = settings.DecaySteps ?? Math.Max(1, settings.TotalSteps / 10);
        var stable = settings.StableSteps ?? (settings.TotalSteps - settings.WarmupSteps - decay);
        var into = step - settings.WarmupSteps - stable;
        if (into <= 0)
        {
            return 1;
        }

        var progress = (double)into / Math.Max(1, decay);
        return into >= decay ? settings.MinFactor : settings.Lifted(settings.DecayType switch
        {
            "linear" => 1 - progress,
            "1-sqrt" => 1 - Math.Sqrt(progress),
            _ => 0.5 * (1 + Math.Cos(Math.PI * settings.Waves * 2 * progress)),
        });
    }

    /// <inheritdoc/>
    public double Warmup(long step, RateSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        var progress = (double)step / Math.Max(1, settings.WarmupSteps);
        return settings.Lifted(settings.WarmupType switch
        {
            "cosine" => 0.5 * (1 - Math.Cos(Math.PI * progress)),
            "1-sqrt" => 1 - Math.Sqrt(1 - progress),
            _ => progress,
        });
    }
}
