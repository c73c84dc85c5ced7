using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>A format of the user's, which makes rows of the built-in formats.</summary>
/// <param name="own">The format.</param>
/// <param name="kind">The rows that the objective trains on; null for whatever there is.</param>
internal sealed class OwnFormat(IDataFormat own, RowKind? kind) : IRowFormat
{
    /// <inheritdoc/>
    public string Name => own.GetType().Name;

    /// <inheritdoc/>
    public bool Recognizes(JsonObject row) => true;

    /// <inheritdoc/>
    public IReadOnlyList<TokenRow> Read(DataRow row, RowTokenizer tokenizer) => [.. Rows(row).SelectMany(r => Of(r).Read(r, tokenizer))];

    /// <inheritdoc/>
    public (int[] Prompt, string PromptText, string Answer)? Question(DataRow row, RowTokenizer tokenizer) =>
        Rows(row).FirstOrDefault() is { } first ? Of(first).Question(first, tokenizer) : null;

    private IRowFormat Of(DataRow made)
    {
        try
        {
            return RowFormats.Find("auto", made, made, kind);
        }
        catch (InvalidDataException e)
        {
            throw new InvalidDataException(
                $"{made.Place}: {Name} made a row of no known format, with the keys {string.Join(", ", made.Json.Select(static p => p.Key))}; it must have messages, prompt and completion, text, chosen and rejected, or input_ids and labels.", e);
        }
    }

    private List<DataRow> Rows(DataRow row)
    {
        ArgumentNullException.ThrowIfNull(row);
        try
        {
            return [.. own.Read(row.Json).Select(json => new DataRow(json, row.Place))];
        }
        catch (Exception e)
        {
            // What a class of the user's throws is for one who looks for the row.
            throw new InvalidDataException($"{row.Place}: {Name}: {e.Message}", e);
        }
    }
}
