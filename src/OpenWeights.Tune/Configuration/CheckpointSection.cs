namespace OpenWeights.Tune.Configuration;

/// <summary>Checkpoints of a run.</summary>
public sealed record CheckpointSection
{
    /// <summary>Steps between checkpoints.</summary>
    [Setting("Steps between checkpoints; 0 for none but the one that a Ctrl-C leaves.", Min = 0)]
    public long EverySteps { get; init; } = 50;

    /// <summary>How many are kept.</summary>
    [Setting("How many checkpoints are kept.", Min = 1)]
    public int Keep { get; init; } = 2;
}
