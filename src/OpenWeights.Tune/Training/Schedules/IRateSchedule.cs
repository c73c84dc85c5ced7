namespace OpenWeights.Tune.Training.Schedules;

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
