
namespace OpenWeights.Tune.Schedules;

/// <summary>The schedules by config name. To add one, add its class and a line here.</summary>
public static class RateSchedules
{
    private static readonly IRateSchedule[] s_schedules =
    [
        new ConstantSchedule(), new LinearSchedule(), new CosineSchedule(), new RestartSchedule(), new RaisedCosineSchedule(), new PolynomialSchedule(), new StableDecaySchedule(),
        new InverseSquareRootSchedule(),
    ];

    /// <summary>The valid config names.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. s_schedules.Select(static s => s.Name)];

    /// <summary>Learning rate of a step, as computed by transformers' schedulers: warmup, linear from 0 unless the schedule has its own, then the schedule.</summary>
    /// <param name="name">Name of the schedule.</param>
    /// <param name="peak">Learning rate after warmup.</param>
    /// <param name="step">The step, from 0.</param>
    /// <param name="settings">Settings of the schedule.</param>
    /// <exception cref="ArgumentException">The name is unknown.</exception>
    public static double Rate(string name, double peak, long step, RateSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        var schedule = Array.Find(s_schedules, s => s.Name == name)
            ?? throw new ArgumentException($"'{name}' is not a schedule; valid are {string.Join(", ", Names)}.{Spelling.DidYouMean(name, Names)}", nameof(name));
        return peak * (step < settings.WarmupSteps ? schedule.Warmup(step, settings) : schedule.Factor(step, settings));
    }
}

/// <summary>A learning rate schedule: a pure function of the step.</summary>
public interface IRateSchedule
{
    /// <summary>The name in the config.</summary>
    string Name { get; }

    /// <summary>Factor of the learning rate after warmup.</summary>
    /// <param name="step">The step, from 0, at or after the end of warmup.</param>
    /// <param name="settings">Settings of the schedule.</param>
    double Factor(long step, RateSettings settings);

    /// <summary>Factor of the learning rate during warmup.</summary>
    /// <param name="step">The step, from 0, before the end of warmup.</param>
    /// <param name="settings">Settings of the schedule.</param>
    double Warmup(long step, RateSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        return (double)step / Math.Max(1, settings.WarmupSteps);
    }
}
