namespace OpenWeights.Tune.Configuration;

/// <summary>What a run is trained on.</summary>
public sealed record DataSection
{
    /// <summary>The data sets to train on.</summary>
    [Setting("The data sets to train on.", Required = true)]
    public IReadOnlyList<DataSource> Train { get; init; } = [];

    /// <summary>The data sets to evaluate on.</summary>
    [Setting("The data sets to evaluate on, never trained on.")]
    public IReadOnlyList<DataSource> Eval { get; init; } = [];

    /// <summary>The longest row.</summary>
    [Setting("The longest row, in tokens.", Min = 2)]
    public int MaxLength { get; init; } = 2048;

    /// <summary>What happens to longer rows.</summary>
    [Setting("What happens to a row that is longer than max_length.", OneOf = ["error", "drop", "truncate"])]
    public string OverLength { get; init; } = "error";

    /// <summary>Whether short rows share one.</summary>
    [Setting("Whether short rows are packed into rows of max_length, in which they do not see each other.")]
    public bool Packing { get; init; } = true;

    /// <summary>Whether rows come in random order.</summary>
    [Setting("Whether rows come in a random order, another one in each epoch.")]
    public bool Shuffle { get; init; } = true;

    /// <summary>What is trained.</summary>
    [Setting("Which tokens are trained: the assistant's turns of a chat, the completion of a prompt, or all.", OneOf = ["assistant", "completion", "all"])]
    public string TrainOn { get; init; } = "assistant";
}
