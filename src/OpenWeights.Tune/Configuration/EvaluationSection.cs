namespace OpenWeights.Tune.Configuration;

/// <summary>Evaluation of a run.</summary>
public sealed record EvaluationSection
{
    /// <summary>Steps between evaluations.</summary>
    [Setting("Steps between evaluations; 0 for only the one at the end.", Min = 0)]
    public long EverySteps { get; init; } = 50;

    /// <summary>How many answers are generated before and after the run.</summary>
    [Setting("How many eval rows with a prompt are answered before and after training, and compared exactly; 0 for none.", Min = 0)]
    public int GenerateRows { get; init; }

    /// <summary>The longest answer.</summary>
    [Setting("The longest such answer, in tokens.", Min = 1)]
    public int MaxNewTokens { get; init; } = 64;
}
