namespace OpenWeights.Tune.Training;

/// <summary>A run that cannot go on.</summary>
public sealed class TrainingFailedException : Exception
{
    /// <summary>A failure with its reason and what to do.</summary>
    public TrainingFailedException(string message)
        : base(message)
    {
    }
}
