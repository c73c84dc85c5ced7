namespace OpenWeights.Tune.Training;

/// <summary>Follows the eval loss: which step was best, and how long ago.</summary>
/// <param name="minGain">How much lower a loss must be to count.</param>
public sealed class BestTracker(double minGain)
{
    /// <summary>The least eval loss so far, or null.</summary>
    public double? Loss { get; private set; }

    /// <summary>Its step.</summary>
    public long Step { get; private set; }

    /// <summary>Evaluations since then.</summary>
    public int WithoutImprovement { get; private set; }

    /// <summary>Notes an eval loss.</summary>
    /// <param name="step">The number of steps done.</param>
    /// <param name="loss">The loss.</param>
    /// <returns>Whether it is the best so far.</returns>
    public bool Sees(long step, double loss)
    {
        if (!(loss < (Loss ?? double.PositiveInfinity) - (Loss is null ? 0 : minGain)))
        {
            WithoutImprovement++;
            return false;
        }

        (Loss, Step, WithoutImprovement) = (loss, step, 0);
        return true;
    }

    /// <summary>Goes on from where a checkpoint was.</summary>
    public void Restore(TrainerState state)
    {
        ArgumentNullException.ThrowIfNull(state);
        (Loss, Step, WithoutImprovement) = (state.BestLoss, state.BestStep, state.EvaluationsWithoutImprovement);
    }
}
