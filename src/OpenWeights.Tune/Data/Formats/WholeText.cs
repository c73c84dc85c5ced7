using System.Text.Json.Nodes;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>Reads a row as one text, which a model classifies or judges as a whole.</summary>
internal static class WholeText
{
    /// <summary>The tokens of a row's "input_ids", messages, prompt and completion, or text.</summary>
    /// <param name="row">The row.</param>
    /// <param name="tokenizer">Tokenizes the texts.</param>
    /// <exception cref="InvalidDataException">The row has no text, or it has no tokens.</exception>
    public static int[] Ids(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(tokenizer);
        if (row.Has("input_ids"))
        {
            return row.Ints("input_ids") is { Length: > 0 } ids ? ids : throw row.Error("\"input_ids\" is empty.");
        }

        return Messages(row) is { } messages ? Rendered(row, tokenizer, ChatMessages.Of(row, messages)) : tokenizer.Whole(Text(row), row.Place);
    }

    /// <summary>The tokens of a whole chat.</summary>
    internal static int[] Rendered(DataRow row, RowTokenizer tokenizer, ChatMessages chat)
    {
        var template = tokenizer.Chat ?? throw row.Error("this is a chat, and the model has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); give texts instead.");
        try
        {
            return tokenizer.Tokenizer.Encode(template.Render(chat.Messages, ChatMessages.Tools(row), addGenerationPrompt: false), addSpecialTokens: false) is { Length: > 0 } ids
                ? ids
                : throw row.Error("the chat template writes nothing for these messages.");
        }
        catch (ChatTemplateException e) when (e.Kind != ChatTemplateErrorKind.Syntax)
        {
            throw new InvalidDataException($"{row.Place}: {e.Message}", e);
        }
    }

    private static JsonNode?[]? Messages(DataRow row) =>
        ChatFormat.List(row.Json) is { } list ? [list]
        : row.Json["prompt"] is JsonArray && row.Json["completion"] is JsonArray or JsonObject ? [row.Json["prompt"], row.Json["completion"]]
        : null;

    private static string Text(DataRow row) => row.Has("prompt") && row.Has("completion") ? row.Text("prompt") + row.Text("completion") : row.Text("text");
}
