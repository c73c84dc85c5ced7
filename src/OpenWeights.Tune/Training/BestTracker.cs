namespace OpenWeights.Tune.Training;

/// <summary>Tracks the best eval loss.</summary>
/// <param name="minGain">Minimum decrease that counts as an improvement.</param>
internal sealed class BestTracker(double minGain)
{
    /// <summary>The lowest eval loss so far, or null.</summary>
    public double? Loss { get; private set; }

    /// <summary>The step of the lowest eval loss.</summary>
    public long Step { get; private set; }

    /// <summary>Number of evaluations since then.</summary>
    public int WithoutImprovement { get; private set; }

    /// <summary>Records an eval loss.</summary>
    /// <param name="step">Number of completed steps.</param>
    /// <param name="loss">The loss.</param>
    /// <returns>Whether it is the lowest so far.</returns>
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

    /// <summary>Restores the state of a checkpoint.</summary>
    public void Restore(TrainerState state)
    {
        ArgumentNullException.ThrowIfNull(state);
        (Loss, Step, WithoutImprovement) = (state.BestLoss, state.BestStep, state.EvaluationsWithoutImprovement);
    }
}
