namespace OpenWeights.Tune.Configuration.Foreign;

/// <summary>A setting's name in other programs.</summary>
/// <param name="Name">The name.</param>
/// <param name="Ours">The setting here, with dots; null where there is none.</param>
/// <param name="Change">How the value changes; null for not at all.</param>
/// <param name="Values">Single values and ours for them, null for nothing to be written; empty where values are the same.</param>
/// <param name="None">Why there is no such setting here.</param>
internal sealed record ForeignName(string Name, string? Ours, string? Change, IReadOnlyDictionary<string, string?> Values, string? None);
