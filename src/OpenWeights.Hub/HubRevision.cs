namespace OpenWeights.Hub;

/// <summary>A repository at one commit.</summary>
/// <param name="Name">ORG/NAME.</param>
/// <param name="Commit">The commit's hash.</param>
/// <param name="License">The licence named in its model card; null for none.</param>
/// <param name="Files">Its files.</param>
public sealed record HubRevision(string Name, string Commit, string? License, IReadOnlyList<HubFile> Files);

/// <summary>A file of a repository.</summary>
/// <param name="Path">Its path in the repository, with slashes.</param>
/// <param name="Size">Its size in bytes.</param>
/// <param name="Hash">SHA-256 of the content for a large file; git's hash of the blob (SHA-1) for others. It names the blob in the cache.</param>
/// <param name="IsLarge">Whether the hash is SHA-256 (Git LFS or Xet).</param>
public sealed record HubFile(string Path, long Size, string Hash, bool IsLarge);
