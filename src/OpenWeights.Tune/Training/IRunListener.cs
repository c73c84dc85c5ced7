using OpenWeights.Tune.Evaluation;

namespace OpenWeights.Tune.Training;

/// <summary>Receives the events of a run; those without a member of yours are not told. The library itself does not write to the console.</summary>
public interface IRunListener
{
    /// <summary>A warning that does not stop the run.</summary>
    void Warn(string message)
    {
    }

    /// <summary>A longer stage begins, such as "reading the model".</summary>
    void Stage(string what)
    {
    }

    /// <summary>The run is ready to start.</summary>
    void Planned(RunPlan plan)
    {
    }

    /// <summary>A step is complete.</summary>
    void Stepped(StepMetrics metrics, long totalSteps)
    {
    }

    /// <summary>An evaluation is complete.</summary>
    void Evaluated(EvaluationMetrics metrics)
    {
    }

    /// <summary>A checkpoint was written.</summary>
    void Checkpointed(long step)
    {
    }

    /// <summary>Answers to eval rows were generated.</summary>
    /// <param name="scores">When they were generated, and their scores.</param>
    /// <param name="answers">The answers.</param>
    void Answered(AnswerScores scores, IReadOnlyList<Answer> answers)
    {
    }
}
