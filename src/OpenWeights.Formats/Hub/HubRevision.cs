namespace OpenWeights.Formats.Hub;

/// <summary>A repository at one commit.</summary>
/// <param name="Name">ORG/NAME.</param>
/// <param name="Commit">The commit.</param>
/// <param name="License">The licence that its card names; null for none.</param>
/// <param name="Files">Its files.</param>
public sealed record HubRevision(string Name, string Commit, string? License, IReadOnlyList<HubFile> Files);
