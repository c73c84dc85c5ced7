using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>Rows of plain text, all of it trained: {"text": "..."}.</summary>
public sealed class TextFormat : IRowFormat
{
    /// <inheritdoc/>
    public string Name => "text";

    /// <inheritdoc/>
    public bool Recognizes(JsonObject row) => row?["text"] is not null;

    /// <inheritdoc/>
    public IReadOnlyList<TokenRow> Read(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(tokenizer);
        if (row.System is not null)
        {
            throw row.Error("\"system\" is not read beside \"text\", all of which is trained as it stands; write it into the text, or give prompt and completion.");
        }

        return row.Text("text") is { Length: > 0 } text ? [tokenizer.Plain(text, 0, row.Place)] : throw row.Error("\"text\" is empty.");
    }

    /// <inheritdoc/>
    public (int[] Prompt, string PromptText, string Answer)? Question(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(tokenizer);
        var ids = tokenizer.Tokenizer.Encode(row.Text("text"), addSpecialTokens: true);
        return TokenQuestion.Of(ids, 0, tokenizer.Tokenizer);
    }
}
