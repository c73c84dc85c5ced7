using System.Text.Json.Nodes;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>The formats by name. To add one, add its file and a line here; the first that recognizes a row is used.</summary>
internal static class RowFormats
{
    private static readonly IRowFormat[] s_formats =
        [new TokenizedFormat(), new RelatedFormat(), new PreferenceFormat(), new ChatFormat(), new InstructionFormat(), new CompletionFormat(), new TextFormat()];

    // Where answers are sampled, a prompt is enough.
    private static readonly IRowFormat[] s_withPrompts = [.. s_formats, new PromptFormat()];

    private static readonly string[] s_lists = ["messages", "conversations"];
    private static readonly string[] s_known = [.. s_lists, "prompt", "completion", "instruction", "output", "question", "answer", "chosen", "rejected", "anchor", "positive", "text", "input_ids", "label"];

    /// <summary>The format of a given name, or for "auto" the one that recognizes a file's first row.</summary>
    /// <exception cref="InvalidDataException">No format recognizes the row.</exception>
    public static IRowFormat Find(string name, DataRow first) => Find(name, first, first);

    /// <summary>The format of a data set: the one that it names, one of the user's, or the one that recognizes its first row.</summary>
    /// <param name="source">The data set.</param>
    /// <param name="first">Its first row.</param>
    /// <param name="asRead">The row as in the file.</param>
    /// <param name="kind">The rows that the objective trains on; null for whatever there is.</param>
    /// <exception cref="InvalidDataException">No format recognizes the row.</exception>
    internal static IRowFormat Of(DataSource source, DataRow first, DataRow asRead, RowKind? kind = null) =>
        source.CustomFormat is { } own ? new OwnFormat(own, kind)
        : OwnClass.Is(source.Format) ? new OwnFormat(OwnClass.Create<IDataFormat>(source.Format, source), kind)
        : Find(source.Format, first, asRead, kind);

    /// <summary>The same of a row whose fields were given other names.</summary>
    internal static IRowFormat Find(string name, DataRow first, DataRow asRead, RowKind? kind = null)
    {
        ArgumentNullException.ThrowIfNull(first);

        // Any row with a label is a text with a class if classes are trained.
        if (kind == RowKind.Classified)
        {
            return new ClassifiedFormat(first.Json["input_ids"] is not null);
        }

        var format = (kind == RowKind.Prompts ? s_withPrompts : s_formats).FirstOrDefault(f => name == "auto" ? f.Recognizes(first.Json) : f.Name == name);
        if (format?.Recognizes(first.Json) != true && first.Json.FirstOrDefault(static p => p.Value is JsonArray { Count: > 0 } list && list[0] is JsonObject row && s_formats.Any(f => f.Recognizes(row))) is { Key: { } key })
        {
            throw first.Error($"the rows are under the key \"{key}\" of one object; write only that list to the file, or each row on its own line (.jsonl).");
        }

        if (format is null && Wrong(first.Json) is { } wrong)
        {
            throw first.Error(wrong);
        }

        return format ?? throw first.Error(
            $"the format of this row is unknown; its keys are {Keys(asRead)}{(ReferenceEquals(first, asRead) ? "" : $", of which the setting fields makes {Keys(first)} alone")}. Supported are messages or conversations (chat), instruction and output, "
            + "question and answer, prompt and completion, chosen and rejected, anchor and positive, text, and input_ids with labels; use the data set's setting fields to map other names, such as `fields: { prompt: ask, completion: reply }`, or --field prompt=ask --field completion=reply of a command.");
    }

    // A key that a format knows, with a value that none can use.
    private static string? Wrong(JsonObject row)
    {
        if (s_lists.FirstOrDefault(key => row[key] is not null) is { } list)
        {
            return $"\"{list}\" must be a list of messages, such as [{{\"role\": \"user\", \"content\": \"...\"}}, {{\"role\": \"assistant\", \"content\": \"...\"}}].";
        }

        return row.FirstOrDefault(p => p.Value is null && s_known.Contains(p.Key)) is { Key: { } empty }
            ? $"\"{empty}\" is null; fill it in, or remove the row."
            : null;
    }

    private static string Keys(DataRow row) => string.Join(", ", row.Json.Select(static p => p.Key).Take(30));
}

/// <summary>A format of rows.</summary>
internal interface IRowFormat
{
    /// <summary>The name in the config.</summary>
    string Name { get; }

    /// <summary>Whether a row has this format.</summary>
    bool Recognizes(JsonObject row);

    /// <summary>Tokenizes the row and determines the trained tokens; a preference gives several rows.</summary>
    /// <exception cref="InvalidDataException">The row lacks something; the message names its position.</exception>
    IReadOnlyList<TokenRow> Read(DataRow row, RowTokenizer tokenizer);

    /// <summary>The prompt and the reference answer of the row, or null if the format has none.</summary>
    (int[] Prompt, string PromptText, string Answer)? Question(DataRow row, RowTokenizer tokenizer) => null;
}
