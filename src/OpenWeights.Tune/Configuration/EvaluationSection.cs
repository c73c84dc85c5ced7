namespace OpenWeights.Tune.Configuration;

/// <summary>Evaluation of a run.</summary>
public sealed record EvaluationSection
{
    /// <summary>Steps between evaluations.</summary>
    [Setting("Steps between evaluations; 0 for only the one at the end.", Min = 0)]
    public long EverySteps { get; init; } = 50;

    /// <summary>How many answers are generated before and after the run.</summary>
    [Setting("How many rows are answered before and after training, and compared exactly: eval rows, or rows that are trained on where there are no others; 0 for none.", Min = 0)]
    public int GenerateRows { get; init; } = 3;

    /// <summary>How many answers are generated at each evaluation.</summary>
    [Setting("How many of those rows are answered at each evaluation too, so that one sees the model learn.", Min = 0)]
    public int Samples { get; init; } = 3;

    /// <summary>Whether the best weights are kept.</summary>
    [Setting("Whether the weights with the least eval loss are kept in the run's folder as best; they are the run's result, unless result is last.")]
    public bool KeepBest { get; init; }

    /// <summary>Which weights the result is, where the best are kept.</summary>
    [Setting("With keep_best: whether the run's result is the weights with the least eval loss (best) or those of its end (last).", OneOf = ["best", "last"])]
    public string Result { get; init; } = "best";

    /// <summary>Evaluations without improvement.</summary>
    [Setting("The run ends after this many evaluations without a lower eval loss; 0 for never.", Min = 0)]
    public int EarlyStoppingPatience { get; init; }

    /// <summary>What counts as lower.</summary>
    [Setting("How much lower an eval loss must be to count.", Min = 0)]
    public double EarlyStoppingMinDelta { get; init; }

    /// <summary>The longest answer.</summary>
    [Setting("The longest such answer, in tokens.", Min = 1)]
    public int MaxNewTokens { get; init; } = 64;
}
