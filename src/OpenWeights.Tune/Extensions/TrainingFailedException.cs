namespace OpenWeights.Tune.Extensions;

/// <summary>Thrown if a run cannot continue: a loss that is no number, or answers that a reward cannot judge.</summary>
public sealed class TrainingFailedException : Exception
{
    /// <summary>Creates the exception.</summary>
    /// <param name="message">What is wrong, where, and what to do.</param>
    /// <param name="inner">The cause.</param>
    public TrainingFailedException(string message, Exception? inner = null)
        : base(message, inner)
    {
    }
}
