using OpenWeights.Tune.Evaluation;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests;

/// <summary>Keeps what a run tells, for tests to look at.</summary>
internal sealed class SilentListener : IRunListener
{
    internal List<string> Warnings { get; } = [];

    internal List<StepMetrics> Steps { get; } = [];

    internal List<EvaluationMetrics> Evaluations { get; } = [];

    internal List<AnswerScores> Scores { get; } = [];

    internal List<long> Checkpoints { get; } = [];

    /// <summary>What came of the run, where the test keeps it.</summary>
    internal RunResult? Result { get; set; }

    /// <summary>Is called after each step, to stop a run at a certain one.</summary>
    internal Action<StepMetrics>? OnStep { get; init; }

    public void Warn(string message) => Warnings.Add(message);

    public void Stage(string what)
    {
    }

    public void Planned(RunPlan plan)
    {
    }

    public void Stepped(StepMetrics metrics, long totalSteps)
    {
        Steps.Add(metrics);
        OnStep?.Invoke(metrics);
    }

    public void Evaluated(EvaluationMetrics metrics) => Evaluations.Add(metrics);

    public void Checkpointed(long step) => Checkpoints.Add(step);

    public void Answered(AnswerScores scores, IReadOnlyList<Answer> answers) => Scores.Add(scores);
}
