namespace OpenWeights.Tune.Data;

/// <summary>A rendered chat with what of it is trained, in characters.</summary>
/// <param name="Text">The text.</param>
/// <param name="Trained">The ranges that are trained, in order and without overlaps.</param>
/// <param name="TurnEnds">The places behind the assistant's turns, in order: where the chat may be cut.</param>
public sealed record ChatForTraining(string Text, IReadOnlyList<Range> Trained, IReadOnlyList<int> TurnEnds)
{
    /// <summary>The numbers of the messages that wrote something, counted from 0.</summary>
    public IReadOnlySet<int> Written { get; init; } = new HashSet<int>();
}
