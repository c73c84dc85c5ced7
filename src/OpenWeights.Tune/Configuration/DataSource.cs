namespace OpenWeights.Tune.Configuration;

/// <summary>A data set.</summary>
public sealed record DataSource
{
    /// <summary>The file.</summary>
    [Setting("The file: JSON lines, or a JSON array of objects.", Required = true)]
    public string Path { get; init; } = "";

    /// <summary>What its rows look like.</summary>
    [Setting("What a row looks like; auto looks at the first one.", OneOf = ["auto", "chat", "instruction", "completion", "text", "tokenized"])]
    public string Format { get; init; } = "auto";

    /// <summary>How many of its rows are read.</summary>
    [Setting("How many rows are read at most.", Min = 1)]
    public int? Limit { get; init; }
}
