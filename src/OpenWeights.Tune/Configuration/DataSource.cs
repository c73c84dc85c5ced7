using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Configuration;

/// <summary>A data set.</summary>
public sealed record DataSource
{
    /// <summary>Rows that a program gives instead of files; null for files.</summary>
    internal GivenRows? Rows { get; private init; }

    /// <summary>A data set of rows that the program has, instead of files.</summary>
    /// <param name="rows">The rows; they are read when the run is prepared.</param>
    /// <param name="name">What messages call them.</param>
    public static DataSource Of(IEnumerable<TrainingRow> rows, string name = "rows") => new() { Path = GivenRows.PathOf(name), Rows = new GivenRows(rows) };

    /// <summary>A data set of rows that come one after the other, from a database or a service for example.</summary>
    /// <param name="rows">The rows; they are read to the end when the run is prepared.</param>
    /// <param name="name">What messages call them.</param>
    /// <param name="stop">Ends the reading.</param>
    public static DataSource Of(IAsyncEnumerable<TrainingRow> rows, string name = "rows", CancellationToken stop = default)
    {
        ArgumentNullException.ThrowIfNull(rows);
        return Of(rows.ToBlockingEnumerable(stop), name);
    }

    /// <summary>Path of the data.</summary>
    [Setting("A file, a folder of files, a glob pattern such as data/*.jsonl, or hub://ORG/NAME for a data set of the Hugging Face Hub. JSON lines, a JSON array of objects, CSV, TSV, Parquet or plain text, optionally compressed with gzip or zstd.", IsPath = true)]
    public string Path { get; init; } = "";

    /// <summary>Split of a data set of the Hub.</summary>
    [Setting("hub://: the split, such as train, validation or test; by default train.")]
    public string? Split { get; init; }

    /// <summary>Config of a data set of the Hub.</summary>
    [Setting("hub://: the config (subset) of a data set that has several.")]
    public string? Config { get; init; }

    /// <summary>Row format.</summary>
    [Setting("Row format; auto detects it from the first row of each file. FILE.dll:CLASS names a class of your own.", OneOf = ["auto", "chat", "instruction", "completion", "text", "preference", "tokenized"], OrOwnClass = true)]
    public string Format { get => CustomFormat is { } own ? OwnClass.NameOf(own) : field; init; } = "auto";

    /// <summary>A format of your own, in the place of <see cref="Format"/>; null for none.</summary>
    public IDataFormat? CustomFormat { get; init; }

    /// <summary>Field names of the data set.</summary>
    [Setting("Field names of this data set, such as `{ prompt: question, completion: answer }`; a dotted path reaches nested values, such as instances.0.output. role and content apply to each message.")]
    public IReadOnlyDictionary<string, string> Fields { get; init; } = new Dictionary<string, string>();

    /// <summary>Role names of the data set.</summary>
    [Setting("Role names of this data set, such as `{ user: student, assistant: teacher }`.")]
    public IReadOnlyDictionary<string, string> Roles { get; init; } = new Dictionary<string, string>();

    /// <summary>SQL query that selects the rows.</summary>
    [Setting("SQL query (DuckDB dialect) that selects the rows; the table `data` holds the rows of path, and read_parquet, read_csv and read_json read other files.")]
    public string? Query { get; init; }

    /// <summary>Whether a text file is one row, or each line is a row.</summary>
    [Setting("Rows of a plain text file: document (the whole file is one row) or line (each line is a row).", OneOf = ["document", "line"])]
    public string TextBy { get; init; } = "document";

    /// <summary>Text between prompt and completion.</summary>
    [Setting("Text inserted between prompt and completion, such as \" \" or \"\\n\"; by default nothing, with a warning if there is no white space between the two.")]
    public string? Separator { get; init; }

    /// <summary>Delimiter of CSV files.</summary>
    [Setting("Field delimiter of a .csv file, such as \";\"; by default detected from the first line: comma, semicolon, tab or vertical bar.")]
    public string? Delimiter { get; init; }

    /// <summary>Number of times that each row is used per epoch.</summary>
    [Setting("How many times per epoch each row is used: 2 uses each row twice, 0.5 uses half of the rows, chosen by the seed.", Min = 0)]
    public double Weight { get; init; } = 1;

    /// <summary>Maximum number of rows to read.</summary>
    [Setting("Maximum number of rows to read.", Min = 1)]
    public int? Limit { get; init; }

    /// <summary>Repeats per epoch; multiplied by weight.</summary>
    [Setting("How many times per epoch the rows are repeated; multiplied by weight.", Min = 1)]
    public int Repeat { get; init; } = 1;
}

/// <summary>Names that data.train.fields and data.train.roles accept.</summary>
internal static class RowFields
{
    /// <summary>Field names.</summary>
    internal static readonly string[] Names =
        ["messages", "role", "content", "tools", "system", "history", "instruction", "input", "output", "question", "answer", "prompt", "completion", "text", "chosen", "rejected", "label", "input_ids", "labels"];

    /// <summary>Role names.</summary>
    internal static readonly string[] Roles = ["system", "user", "assistant", "tool"];
}
