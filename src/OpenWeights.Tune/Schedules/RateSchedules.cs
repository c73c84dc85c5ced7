using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Schedules;

/// <summary>The schedules by config name. To add one, add its class and a line here.</summary>
internal static class RateSchedules
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
        return Rate(Find(name), peak, step, settings);
    }

    /// <summary>Learning rate of a step by a schedule.</summary>
    /// <param name="schedule">The schedule.</param>
    /// <param name="peak">Learning rate after warmup.</param>
    /// <param name="step">The step, from 0.</param>
    /// <param name="settings">Settings of the schedule.</param>
    internal static double Rate(IRateSchedule schedule, double peak, long step, RateSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        return peak * (step < settings.WarmupSteps ? schedule.Warmup(step, settings) : schedule.Factor(step, settings));
    }

    /// <summary>The schedule of a run.</summary>
    /// <param name="training">The settings.</param>
    internal static IRateSchedule Of(TrainingSection training) =>
        training.CustomSchedule ?? (OwnClass.Is(training.Schedule) ? OwnClass.Create<IRateSchedule>(training.Schedule, training) : Find(training.Schedule));

    private static IRateSchedule Find(string name)
    {
        var schedule = Array.Find(s_schedules, s => s.Name == name)
            ?? throw new ArgumentException($"'{name}' is not a schedule; valid are {string.Join(", ", Names)}.{Spelling.DidYouMean(name, Names)}", nameof(name));
        return schedule;
    }
}
