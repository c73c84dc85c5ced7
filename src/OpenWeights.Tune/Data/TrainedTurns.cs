namespace OpenWeights.Tune.Data;

/// <summary>Which turns of a chat are trained.</summary>
/// <param name="All">Everything, the other roles' turns and the template's own words too.</param>
/// <param name="LastAlone">Of the assistant's turns the last one alone.</param>
/// <param name="Allows">Whether the row itself lets a message (by its place, from 0; -1 for text of no message) be trained.</param>
public sealed record TrainedTurns(bool All, bool LastAlone, Predicate<int> Allows);
