namespace OpenWeights.Tune.Generation;

/// <summary>What was generated after a prompt.</summary>
/// <param name="OutputIds">The new tokens; an end token that ended them is among them.</param>
/// <param name="FinishReason">stop for an end token or a stop text, length for the limit.</param>
public sealed record Generated(IReadOnlyList<int> OutputIds, string FinishReason)
{
    /// <summary>Whether the text ended because the model has no room for a longer one.</summary>
    public bool IsFull { get; init; }
}
