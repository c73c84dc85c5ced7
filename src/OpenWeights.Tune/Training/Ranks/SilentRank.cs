using OpenWeights.Tune.Evaluation;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>The events of a rank that is not the first, which says nothing.</summary>
internal sealed class SilentRank : IRunListener
{
    private SilentRank()
    {
    }

    /// <summary>The listener.</summary>
    internal static IRunListener Instance { get; } = new SilentRank();

    /// <inheritdoc/>
    public void Warn(string message)
    {
    }

    /// <inheritdoc/>
    public void Stage(string what)
    {
    }

    /// <inheritdoc/>
    public void Planned(RunPlan plan)
    {
    }

    /// <inheritdoc/>
    public void Stepped(StepMetrics metrics, long totalSteps)
    {
    }

    /// <inheritdoc/>
    public void Evaluated(EvaluationMetrics metrics)
    {
    }

    /// <inheritdoc/>
    public void Checkpointed(long step)
    {
    }

    /// <inheritdoc/>
    public void Answered(AnswerScores scores, IReadOnlyList<Answer> answers)
    {
    }
}
