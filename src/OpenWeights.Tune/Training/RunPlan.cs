using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Training.Memory;

namespace OpenWeights.Tune.Training;

/// <summary>What a run will do, before it does it.</summary>
public sealed record RunPlan
{
    /// <summary>The config with every default.</summary>
    public required RunConfig Config { get; init; }

    /// <summary>The family of the model.</summary>
    public required string ModelType { get; init; }

    /// <summary>Parameters of the base.</summary>
    public required long BaseParameters { get; init; }

    /// <summary>Parameters that are trained.</summary>
    public required long TrainedParameters { get; init; }

    /// <summary>The dtype of the base.</summary>
    public required string DType { get; init; }

    /// <summary>The device.</summary>
    public required string Device { get; init; }

    /// <summary>What became of the training data.</summary>
    public required DataReport Train { get; init; }

    /// <summary>What became of the eval data, or null.</summary>
    public required DataReport? Eval { get; init; }

    /// <summary>The share of the first epoch's batches that is padding.</summary>
    public required double Padding { get; init; }

    /// <summary>Steps of an epoch.</summary>
    public required long StepsPerEpoch { get; init; }

    /// <summary>Steps of the run.</summary>
    public required long TotalSteps { get; init; }

    /// <summary>Steps that an earlier part of the run has done.</summary>
    public required long StepsDone { get; init; }

    /// <summary>The memory that the run will need.</summary>
    public required MemoryEstimate Memory { get; init; }

    /// <summary>What of that lies in the memory that there is room in.</summary>
    public long MemoryNeeded { get; init; }

    /// <summary>The memory that there is for it; null where the system does not tell.</summary>
    public AvailableMemory? Room { get; init; }
}
