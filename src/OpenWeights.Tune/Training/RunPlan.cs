using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Training.Memory;

namespace OpenWeights.Tune.Training;

/// <summary>The plan of a run, before it starts.</summary>
public sealed record RunPlan
{
    /// <summary>The complete config, including defaults.</summary>
    public required RunConfig Config { get; init; }

    /// <summary>Family of the model.</summary>
    public required string ModelType { get; init; }

    /// <summary>Number of parameters of the base model.</summary>
    public required long BaseParameters { get; init; }

    /// <summary>Number of trained parameters.</summary>
    public required long TrainedParameters { get; init; }

    /// <summary>Data type of the base model.</summary>
    public required string DType { get; init; }

    /// <summary>How the base model's files hold quantized weights; null if they do not.</summary>
    public string? BaseQuantization { get; init; }

    /// <summary>The device.</summary>
    public required string Device { get; init; }

    /// <summary>Report on the training data.</summary>
    internal DataReport Train { get; init; } = null!;

    /// <summary>Report on the eval data, or null.</summary>
    internal DataReport? Eval { get; init; }

    /// <summary>Fraction of padding in the batches of the first epoch.</summary>
    public required double Padding { get; init; }

    /// <summary>Steps per epoch.</summary>
    public required long StepsPerEpoch { get; init; }

    /// <summary>Number of steps of the run.</summary>
    public required long TotalSteps { get; init; }

    /// <summary>Number of steps completed by an earlier part of the run.</summary>
    public required long StepsDone { get; init; }

    /// <summary>Estimated memory.</summary>
    internal MemoryEstimate Memory { get; init; } = null!;

    /// <summary>What the adapter's start costs before the first step; null for nothing worth a word.</summary>
    internal StartCost? Start { get; init; }

    /// <summary>Log-probabilities of the reference or teacher that are computed once and kept; null for none.</summary>
    internal LogProbPlan? LogProbs { get; init; }

    /// <summary>Answers that a teacher samples once; null for none.</summary>
    internal TeacherAnswerPlan? TeacherAnswers { get; init; }

    /// <summary>The part of the estimate that is in the compared memory.</summary>
    public long MemoryNeeded { get; init; }

    /// <summary>Available memory; null if unknown.</summary>
    internal AvailableMemory? Room { get; init; }

    /// <summary>Number of ranks that compute the run.</summary>
    public int Ranks { get; init; } = 1;
}
