using OpenWeights.Tune.Evaluation;

namespace OpenWeights.Tune.Training;

/// <summary>Is told what a run does. The library itself writes to no console.</summary>
public interface IRunListener
{
    /// <summary>Something that the user should know and that does not stop the run.</summary>
    void Warn(string message);

    /// <summary>A stage that takes a while begins, such as "reading the model".</summary>
    void Stage(string what);

    /// <summary>The run is ready: what it will do.</summary>
    void Planned(RunPlan plan);

    /// <summary>A step is done.</summary>
    void Stepped(StepMetrics metrics, long totalSteps);

    /// <summary>An evaluation is done.</summary>
    void Evaluated(EvaluationMetrics metrics);

    /// <summary>A checkpoint is on the disk.</summary>
    void Checkpointed(long step);

    /// <summary>The eval rows were answered.</summary>
    /// <param name="scores">When, and how near the answers are.</param>
    /// <param name="answers">The answers.</param>
    void Answered(AnswerScores scores, IReadOnlyList<Answer> answers);
}
