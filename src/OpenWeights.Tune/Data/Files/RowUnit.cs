namespace OpenWeights.Tune.Data.Files;

/// <summary>What the number of a row counts.</summary>
internal enum RowUnit
{
    /// <summary>Lines of a text file.</summary>
    Line,

    /// <summary>Rows of a file that has no lines, or in which lines say nothing.</summary>
    Row,

    /// <summary>Nothing: the file is one row.</summary>
    File,
}
