namespace OpenWeights.Tune.Configuration;

/// <summary>A data set.</summary>
public sealed record DataSource
{
    /// <summary>Where it lies.</summary>
    [Setting("The file, a folder of files, or a pattern such as data/*.jsonl: JSON lines, a JSON array of objects, CSV, TSV, Parquet or plain text, also compressed with gzip or zstd.", IsPath = true)]
    public string Path { get; init; } = "";

    /// <summary>What its rows look like.</summary>
    [Setting("What a row looks like; auto looks at the first one of each file.", OneOf = ["auto", "chat", "instruction", "completion", "text", "preference", "tokenized"])]
    public string Format { get; init; } = "auto";

    /// <summary>What fields are called in the data set.</summary>
    [Setting("What fields are called in this data set, such as `{ prompt: question, completion: answer }`; a name may lead into a row, such as instances.0.output. role and content are looked for in each message.")]
    public IReadOnlyDictionary<string, string> Fields { get; init; } = new Dictionary<string, string>();

    /// <summary>What roles are called in the data set.</summary>
    [Setting("What the roles of messages are called in this data set, such as `{ user: student, assistant: teacher }`.")]
    public IReadOnlyDictionary<string, string> Roles { get; init; } = new Dictionary<string, string>();

    /// <summary>SQL that selects the rows.</summary>
    [Setting("SQL that selects the rows (DuckDB's); the table `data` holds the rows of path, other files are read with read_parquet, read_csv or read_json.")]
    public string? Query { get; init; }

    /// <summary>What a row of a text file is.</summary>
    [Setting("Whether a plain text file is one row, or each of its lines is.", OneOf = ["document", "line"])]
    public string TextBy { get; init; } = "document";

    /// <summary>What stands between a prompt and its completion.</summary>
    [Setting("What is put between prompt and completion of rows of texts, such as \" \" or \"\\n\"; left out, nothing, and a warning where neither has a space or a line's end there.")]
    public string? Separator { get; init; }

    /// <summary>What separates the cells of a table.</summary>
    [Setting("The character between the cells of a .csv file, such as \";\"; left out, that of its first line: a comma, a semicolon, a tab or a bar.")]
    public string? Delimiter { get; init; }

    /// <summary>How often its rows come.</summary>
    [Setting("How often the rows of this data set come in an epoch: 2 is each twice, 0.5 a half of them, chosen by the seed.", Min = 0)]
    public double Weight { get; init; } = 1;

    /// <summary>How many of its rows are read.</summary>
    [Setting("How many rows are read at most.", Min = 1)]
    public int? Limit { get; init; }

    /// <summary>How many times its rows are repeated.</summary>
    [Setting("How many times the rows of this data set come in an epoch; multiplies weight.", Min = 1)]
    public int Repeat { get; init; } = 1;
}

/// <summary>What data.train.fields and data.train.roles may name.</summary>
internal static class RowFields
{
    /// <summary>The fields that can be named.</summary>
    internal static readonly string[] Names =
        ["messages", "role", "content", "tools", "system", "history", "instruction", "input", "output", "question", "answer", "prompt", "completion", "text", "chosen", "rejected", "label", "input_ids", "labels"];

    /// <summary>The roles that can be named.</summary>
    internal static readonly string[] Roles = ["system", "user", "assistant", "tool"];
}
