using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>
/// Texts that belong together, for embeddings: {"anchor": "...", "positive": "...", "negatives": ["...", ...]}, with "query" for the anchor,
/// "document" for the positive, and "negative", "negative_1", ... for single negatives; negatives are optional. Tokenized:
/// {"anchor_ids", "positive_ids", "negative_ids": [[...], ...]}.
/// </summary>
internal sealed class RelatedFormat : IRowFormat
{
    private static readonly string[] s_anchors = ["anchor", "query"];
    private static readonly string[] s_positives = ["positive", "document", "pos"];
    private static readonly string[] s_negatives = ["negatives", "negative", "neg"];

    /// <inheritdoc/>
    public string Name => "embedding";

    /// <inheritdoc/>
    public bool Recognizes(JsonObject row) => row is not null && ((Field(row, s_anchors) is not null && Field(row, s_positives) is not null) || row["anchor_ids"] is not null);

    /// <inheritdoc/>
    public IReadOnlyList<TokenRow> Read(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(tokenizer);
        var texts = row.Has("anchor_ids") ? Tokenized(row) : Texts(row).Select((t, i) => tokenizer.Whole((i == 0 ? tokenizer.QueryPrompt : tokenizer.DocumentPrompt) + t, row.Place)).ToList();
        if (texts.Exists(static t => t.Length == 0))
        {
            throw row.Error("one of its lists of token ids is empty.");
        }

        int[] ids = [.. texts.SelectMany(static t => t)];
        return [new TokenRow(ids, ids, [.. texts.Select(static t => t.Length)], row.Place) { Role = RowRole.Related }];
    }

    private static string? Field(JsonObject row, string[] names) => Array.Find(names, n => row[n] is not null);

    private static List<int[]> Tokenized(DataRow row)
    {
        List<int[]> texts = [row.Ints("anchor_ids"), row.Ints("positive_ids")];
        foreach (var negative in row.Json["negative_ids"] as JsonArray ?? [])
        {
            texts.Add((row with { Json = new JsonObject { ["negative_ids"] = negative?.DeepClone() } }).Ints("negative_ids"));
        }

        return texts;
    }

    private static IEnumerable<string> Texts(DataRow row)
    {
        yield return row.Text(Field(row.Json, s_anchors) ?? throw row.Error("\"anchor\" is missing."));
        foreach (var positive in List(row, Field(row.Json, s_positives) ?? throw row.Error("\"positive\" is missing.")).Take(1))
        {
            yield return positive;
        }

        foreach (var key in s_negatives.Where(row.Has).Concat(row.Json.Select(static p => p.Key).Where(k => k.StartsWith("negative_", StringComparison.Ordinal) && row.Has(k))))
        {
            foreach (var negative in List(row, key))
            {
                yield return negative;
            }
        }
    }

    // A text, or a list of texts.
    private static IEnumerable<string> List(DataRow row, string key) => row.Json[key] is JsonArray list
        ? list.Select(n => n is JsonValue value && value.GetValueKind() == JsonValueKind.String ? value.GetValue<string>() : throw row.Error($"\"{key}\" must be a text or a list of texts."))
        : [row.Text(key)];
}
