namespace OpenWeights.Tune.Training.Schedules;

/// <summary>The schedules by their names in the config. A new one is a new file and a line here.</summary>
public static class RateSchedules
{
    private static readonly IRateSchedule[] s_schedules = [new ConstantSchedule(), new LinearSchedule(), new CosineSchedule()];

    /// <summary>The names that a config may give.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. s_schedules.Select(static s => s.Name)];

    /// <summary>The learning rate of a step, as transformers' schedulers give it: linear warm-up from 0, then the schedule.</summary>
    /// <param name="name">The schedule's name.</param>
    /// <param name="peak">The rate after warm-up.</param>
    /// <param name="step">The step, from 0.</param>
    /// <param name="warmupSteps">The number of warm-up steps.</param>
    /// <param name="totalSteps">The number of steps of the run.</param>
    public static double Rate(string name, double peak, long step, long warmupSteps, long totalSteps)
    {
        var schedule = s_schedules.First(s => s.Name == name);
        if (step < warmupSteps)
        {
            return peak * step / Math.Max(1, warmupSteps);
        }

        var progress = (double)(step - warmupSteps) / Math.Max(1, totalSteps - warmupSteps);
        return peak * schedule.Factor(Math.Clamp(progress, 0, 1));
    }
}
