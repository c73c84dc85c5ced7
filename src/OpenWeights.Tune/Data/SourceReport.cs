namespace OpenWeights.Tune.Data;

/// <summary>What became of a file of a data set.</summary>
/// <param name="Path">The file.</param>
/// <param name="Format">The format that its rows have.</param>
/// <param name="Rows">The rows that were read of it.</param>
public sealed record SourceReport(string Path, string Format, long Rows);
