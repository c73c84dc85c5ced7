namespace OpenWeights.Tune.Data;

/// <summary>What became of the rows of data sets: nothing is lost without standing here.</summary>
public sealed record DataReport
{
    /// <summary>The files, and the formats that were found in them.</summary>
    public IReadOnlyList<SourceReport> Files { get; init; } = [];

    /// <summary>Whether every row is of tokens already, so that no tokenizer is needed to read them.</summary>
    public bool IsTokenized => Files.All(static f => f.Format == "tokenized");

    /// <summary>Rows read.</summary>
    public int Rows { get; init; }

    /// <summary>Rows that could not be read and were left out.</summary>
    public long BadRows { get; init; }

    /// <summary>What is wrong with the first of them.</summary>
    public IReadOnlyList<string> BadExamples { get; init; } = [];

    /// <summary>The longest row that passes, in tokens: max_length, or less where the model has less room.</summary>
    public int RowLimit { get; init; }

    /// <summary>Rows left out because they were longer than that.</summary>
    public int Dropped { get; init; }

    /// <summary>Rows cut to that.</summary>
    public int Truncated { get; init; }

    /// <summary>Tokens cut away.</summary>
    public long TruncatedTokens { get; init; }

    /// <summary>Rows made several of, because they were longer than that.</summary>
    public int Split { get; init; }

    /// <summary>Rows left out because nothing of them is trained.</summary>
    public int Untrained { get; init; }

    /// <summary>Rows that are the same as another one before them.</summary>
    public int Duplicates { get; init; }

    /// <summary>Rows to evaluate on that are also among the rows to train on.</summary>
    public int Leaked { get; init; }

    /// <summary>Rows of an epoch, after weights and repeats and before packing.</summary>
    public int Used { get; init; }

    /// <summary>The tokens of those.</summary>
    public long Tokens { get; init; }

    /// <summary>Tokens of those that are predicted in training.</summary>
    public long TargetTokens { get; init; }

    /// <summary>The longest row that was read, in tokens.</summary>
    public int Longest { get; init; }

    /// <summary>Whether rows were packed.</summary>
    public bool IsPacked { get; init; }

    /// <summary>Rows after packing; the rows themselves where nothing is packed.</summary>
    public int PackedRows { get; init; }

    /// <summary>The fewest packed rows that the tokens could ever fill; the rows themselves where nothing is packed.</summary>
    public int FewestPackedRows { get; init; }

    /// <summary>The share of packed rows that tokens fill; 1 where nothing is packed.</summary>
    public double Efficiency { get; init; } = 1;

    /// <summary>Where token rows were kept, or come from, a line for each data set that is kept.</summary>
    public IReadOnlyList<string> Cached { get; init; } = [];

    /// <summary>What whoever trains on the chats should know of the template.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];
}

/// <summary>What became of a file of a data set.</summary>
/// <param name="Path">The file.</param>
/// <param name="Format">The format that its rows have.</param>
/// <param name="Rows">The rows that were read of it.</param>
public sealed record SourceReport(string Path, string Format, long Rows);
