using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>
/// Texts with a class: {"text": "...", "label": "..."}, where the label is a name or a number; instead of the text messages, a prompt with its
/// completion, or "input_ids".
/// </summary>
/// <param name="isTokenized">Whether the rows are tokenized.</param>
internal sealed class ClassifiedFormat(bool isTokenized) : IRowFormat
{
    /// <inheritdoc/>
    public string Name => isTokenized ? "tokenized" : "classification";

    /// <inheritdoc/>
    public bool Recognizes(JsonObject row) => row?["label"] is not null;

    /// <inheritdoc/>
    public IReadOnlyList<TokenRow> Read(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(tokenizer);
        var label = Label(row);
        var ids = WholeText.Ids(row, tokenizer);
        return [new TokenRow(ids, ids, row.Place) { Role = RowRole.Classified, Label = label }];
    }

    /// <summary>The class of a row.</summary>
    /// <exception cref="InvalidDataException">There is none.</exception>
    internal static string Label(DataRow row) => row.Json["label"] switch
    {
        null => throw row.Error("\"label\" is missing; a text to classify needs the name or number of its class."),
        JsonValue value => value.GetValueKind() switch
        {
            JsonValueKind.String when !string.IsNullOrWhiteSpace(value.GetValue<string>()) => value.GetValue<string>().Trim(),
            JsonValueKind.True => "true",
            JsonValueKind.False => "false",

            // Tables may store whole numbers as 1.0.
            JsonValueKind.Number when double.Parse(value.ToJsonString(), CultureInfo.InvariantCulture) is var number && number == Math.Floor(number) => number.ToString("F0", CultureInfo.InvariantCulture),
            _ => throw row.Error($"\"label\" is {value.ToJsonString()}; it must be the name or the whole number of a class."),
        },
        var other => throw row.Error($"\"label\" is {other.ToJsonString()}; a text has one class, a name or a whole number."),
    };
}
