
namespace OpenWeights.Tune.Schedules;

/// <summary>The schedules by their names in the config. A new one is a class and a line here.</summary>
public static class RateSchedules
{
    private static readonly IRateSchedule[] s_schedules =
    [
        new ConstantSchedule(), new LinearSchedule(), new CosineSchedule(), new PolynomialSchedule(), new StableDecaySchedule(), new InverseSquareRootSchedule(),
    ];

    /// <summary>The names that a config may give.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. s_schedules.Select(static s => s.Name)];

    /// <summary>The learning rate of a step, as transformers' schedulers give it: linear warm-up from 0, then the schedule.</summary>
    /// <param name="name">The schedule's name.</param>
    /// <param name="peak">The rate after warm-up.</param>
    /// <param name="step">The step, from 0.</param>
    /// <param name="settings">What the schedule is made of.</param>
    /// <exception cref="ArgumentException">There is no such schedule.</exception>
    public static double Rate(string name, double peak, long step, RateSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        var schedule = Array.Find(s_schedules, s => s.Name == name)
            ?? throw new ArgumentException($"'{name}' is not a schedule; possible are {string.Join(", ", Names)}.{Spelling.DidYouMean(name, Names)}", nameof(name));
        return step < settings.WarmupSteps ? peak * step / Math.Max(1, settings.WarmupSteps) : peak * schedule.Factor(step, settings);
    }
}

/// <summary>The learning rate as a pure function of the step.</summary>
public interface IRateSchedule
{
    /// <summary>The name in the config.</summary>
    string Name { get; }

    /// <summary>What the learning rate is multiplied by after warm-up.</summary>
    /// <param name="step">The step, from 0, at or after the end of warm-up.</param>
    /// <param name="settings">What the schedule is made of.</param>
    double Factor(long step, RateSettings settings);
}
