namespace OpenWeights.Formats.Hub;

/// <summary>Is told of a download.</summary>
public interface IHubListener
{
    /// <summary>Before anything is fetched.</summary>
    /// <param name="revision">The model.</param>
    /// <param name="files">The files that are wanted.</param>
    /// <param name="missingBytes">The bytes of those that are not here yet.</param>
    void Found(HubRevision revision, IReadOnlyList<HubFile> files, long missingBytes);

    /// <summary>While it is fetched; one call at a time.</summary>
    /// <param name="done">The bytes that are here.</param>
    /// <param name="total">The bytes of all files that are wanted.</param>
    void Progressed(long done, long total);
}
