namespace OpenWeights.Tune.Training.Schedules;

/// <summary>The learning rate as a pure function of the step.</summary>
public interface IRateSchedule
{
    /// <summary>The name in the config.</summary>
    string Name { get; }

    /// <summary>What the learning rate is multiplied by after warm-up.</summary>
    /// <param name="progress">How much of the steps after warm-up is done, from 0 to 1.</param>
    double Factor(double progress);
}
