namespace OpenWeights.Tune.Data;

/// <summary>Statistics of loading data sets; every dropped or changed row is counted.</summary>
internal sealed record DataReport
{
    /// <summary>The files, and their detected formats.</summary>
    public IReadOnlyList<SourceReport> Files { get; init; } = [];

    /// <summary>Whether all rows are tokenized already, so that no tokenizer is needed.</summary>
    public bool IsTokenized => Files.All(static f => f.Format == "tokenized");

    /// <summary>Number of rows read.</summary>
    public int Rows { get; init; }

    /// <summary>Number of rows that could not be read and were skipped.</summary>
    public long BadRows { get; init; }

    /// <summary>Problems of the first of them.</summary>
    public IReadOnlyList<string> BadExamples { get; init; } = [];

    /// <summary>Maximum row length in tokens: max_length, or the model's context length if smaller.</summary>
    public int RowLimit { get; init; }

    /// <summary>Number of rows dropped because they exceed it.</summary>
    public int Dropped { get; init; }

    /// <summary>Number of rows truncated to it.</summary>
    public int Truncated { get; init; }

    /// <summary>Number of tokens removed by truncation.</summary>
    public long TruncatedTokens { get; init; }

    /// <summary>Number of rows split because they exceed it.</summary>
    public int Split { get; init; }

    /// <summary>Number of rows dropped because they have no trained tokens.</summary>
    public int Untrained { get; init; }

    /// <summary>Number of rows that duplicate an earlier one.</summary>
    public int Duplicates { get; init; }

    /// <summary>Number of eval rows that also occur in the training data.</summary>
    public int Leaked { get; init; }

    /// <summary>Number of rows per epoch, after weights and repeats and before packing.</summary>
    public int Used { get; init; }

    /// <summary>Number of tokens in these rows.</summary>
    public long Tokens { get; init; }

    /// <summary>Number of target tokens in these rows.</summary>
    public long TargetTokens { get; init; }

    /// <summary>Longest row read, in tokens.</summary>
    public int Longest { get; init; }

    /// <summary>Whether rows were packed.</summary>
    public bool IsPacked { get; init; }

    /// <summary>Number of rows after packing; the number of rows if packing is off.</summary>
    public int PackedRows { get; init; }

    /// <summary>Minimum number of packed rows that could hold the tokens; the number of rows if packing is off.</summary>
    public int FewestPackedRows { get; init; }

    /// <summary>Fraction of packed rows filled with tokens; 1 if packing is off.</summary>
    public double Efficiency { get; init; } = 1;

    /// <summary>Where tokenized rows are cached, one line per cached data set.</summary>
    public IReadOnlyList<string> Cached { get; init; } = [];

    /// <summary>Warnings about the chat template.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];
}

/// <summary>Statistics of one file.</summary>
/// <param name="Path">Path of the file.</param>
/// <param name="Format">Format of its rows.</param>
/// <param name="Rows">Number of rows read.</param>
internal sealed record SourceReport(string Path, string Format, long Rows);
