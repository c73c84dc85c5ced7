using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>A prompt and what follows it, without a chat template: {"prompt": "...", "completion": "..."}. The completion and the end of text are trained.</summary>
public sealed class CompletionFormat : IRowFormat
{
    /// <inheritdoc/>
    public string Name => "completion";

    /// <inheritdoc/>
    public bool Recognizes(JsonObject row) => row?.ContainsKey("prompt") == true && row.ContainsKey("completion");

    /// <inheritdoc/>
    public TokenRow Read(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(tokenizer);
        var prompt = row.Text("prompt");
        return tokenizer.Plain(prompt + row.Text("completion"), prompt.Length, row.Place);
    }

    /// <inheritdoc/>
    public (int[] Prompt, string PromptText, string Answer)? Question(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(tokenizer);
        var prompt = row.Text("prompt");
        var ids = tokenizer.Tokenizer.Encode(prompt, addSpecialTokens: true);
        return (ids.Length > 0 && ids[^1] == tokenizer.Tokenizer.EosToken ? ids[..^1] : ids, prompt, row.Text("completion"));
    }
}
