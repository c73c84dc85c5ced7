using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>Rows of plain text, all of it trained: {"text": "..."}.</summary>
public sealed class TextFormat : IRowFormat
{
    /// <inheritdoc/>
    public string Name => "text";

    /// <inheritdoc/>
    public bool Recognizes(JsonObject row) => row?.ContainsKey("text") == true;

    /// <inheritdoc/>
    public TokenRow Read(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(tokenizer);
        return tokenizer.Plain(row.Text("text"), 0, row.Place);
    }
}
