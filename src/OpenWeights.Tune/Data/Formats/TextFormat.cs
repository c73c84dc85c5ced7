using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>Plain text; all tokens are trained: {"text": "..."}.</summary>
internal sealed class TextFormat : IRowFormat
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
            throw row.Error("\"system\" is not supported with \"text\"; put it into the text, or use prompt and completion.");
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
