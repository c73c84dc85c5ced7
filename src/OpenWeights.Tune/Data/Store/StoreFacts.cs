using OpenWeights.Tune.Data.Files;

namespace OpenWeights.Tune.Data.Store;

/// <summary>What a store knows besides its rows; it stands in the file as JSON.</summary>
internal sealed record StoreFacts
{
    /// <summary>The files that the rows are of.</summary>
    public required IReadOnlyList<StoreFile> Files { get; init; }

    /// <summary>Rows that could not be read and were left out.</summary>
    public required long BadRows { get; init; }

    /// <summary>What is wrong with the first of them.</summary>
    public required IReadOnlyList<string> BadExamples { get; init; }

    /// <summary>What whoever trains on the chats should know of the template.</summary>
    public required IReadOnlyList<string> Warnings { get; init; }

    /// <summary>The tokens of all rows.</summary>
    public required long Tokens { get; init; }
}

/// <summary>A file whose rows are in a store.</summary>
/// <param name="Path">The file.</param>
/// <param name="Format">The format of its rows.</param>
/// <param name="Rows">The rows that were read of it.</param>
/// <param name="Unit">What a row's number counts.</param>
internal sealed record StoreFile(string Path, string Format, long Rows, RowUnit Unit);
