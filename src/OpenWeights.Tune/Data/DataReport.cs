namespace OpenWeights.Tune.Data;

/// <summary>What became of the rows of data sets: nothing is lost without standing here.</summary>
public sealed record DataReport
{
    /// <summary>Rows read.</summary>
    public int Rows { get; init; }

    /// <summary>Their tokens.</summary>
    public long Tokens { get; init; }

    /// <summary>Tokens that are predicted in training.</summary>
    public long TargetTokens { get; init; }

    /// <summary>Rows left out because they were longer than max_length.</summary>
    public int Dropped { get; init; }

    /// <summary>Rows cut to max_length.</summary>
    public int Truncated { get; init; }

    /// <summary>Tokens cut away.</summary>
    public long TruncatedTokens { get; init; }

    /// <summary>The longest row, in tokens.</summary>
    public int Longest { get; init; }

    /// <summary>Rows after packing; the rows themselves where nothing is packed.</summary>
    public int PackedRows { get; init; }

    /// <summary>The share of packed rows that tokens fill; 1 where nothing is packed.</summary>
    public double Efficiency { get; init; } = 1;

    /// <summary>The formats that were found, a line for each file.</summary>
    public IReadOnlyList<string> Formats { get; init; } = [];
}
