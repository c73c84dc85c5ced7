using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Server.Protocols.OpenAi;

namespace OpenWeights.Tune.Server.Protocols;

/// <summary>Reads prompts: a text, tokens, texts and tokens mixed, or a list of these. A text can also be written as llama.cpp has it, in an object.</summary>
internal static class PromptField
{
    /// <summary>The prompts: each a text or tokens.</summary>
    /// <param name="given">The field.</param>
    /// <param name="name">Its name.</param>
    /// <param name="tokenizer">Tokenizes texts among tokens.</param>
    /// <param name="most">Maximum number of prompts.</param>
    /// <exception cref="RequestException">The field is of another kind.</exception>
    internal static IReadOnlyList<Prompt> Read(JsonElement? given, string name, Tokenizer tokenizer, int most)
    {
        if (given is not { ValueKind: not JsonValueKind.Null } field)
        {
            throw new RequestException($"Missing required parameter: '{name}'.", name);
        }

        var isList = field.ValueKind == JsonValueKind.Array && !field.EnumerateArray().Any(static p => p.ValueKind == JsonValueKind.Number);
        var prompts = isList ? [.. field.EnumerateArray().Select((p, i) => One(p, $"{name}[{i}]", tokenizer))] : new List<Prompt> { One(field, name, tokenizer) };
        return prompts.Count == 0 ? throw new RequestException($"Invalid '{name}': empty array.", name)
            : prompts.Count > most ? throw new RequestException($"Invalid '{name}': it has {prompts.Count} entries, and this server takes {most} at most.", name)
            : prompts;
    }

    private static Prompt One(JsonElement prompt, string place, Tokenizer tokenizer) => prompt.ValueKind switch
    {
        JsonValueKind.String => new Prompt(prompt.GetString(), null),
        JsonValueKind.Array => new Prompt(null, [.. prompt.EnumerateArray().SelectMany((p, i) => Tokens(p, i, place, tokenizer))]),
        JsonValueKind.Object => new Prompt(Text(prompt, place), null),
        _ => throw new RequestException($"Invalid type for '{place}': it must be a text or a list of tokens.", place),
    };

    // {"prompt_string": "text"}, or {"content": [{"type": "text", "text": "text"}]}.
    private static string Text(JsonElement prompt, string place)
    {
        if (prompt.TryGetProperty("multimodal_data", out var data) && data is { ValueKind: JsonValueKind.Array } list && list.GetArrayLength() > 0)
        {
            throw new RequestException($"'{place}' has multimodal_data, and this model reads only text.", place);
        }

        if (prompt.TryGetProperty("prompt_string", out var text) && text.ValueKind == JsonValueKind.String)
        {
            return text.GetString()!;
        }

        return prompt.TryGetProperty("content", out var parts) && parts.ValueKind == JsonValueKind.Array
            ? string.Concat(parts.EnumerateArray().Select((p, i) => ChatMessages.Part(JsonNode.Parse(p.GetRawText()), $"{place}.content[{i}]")))
            : throw new RequestException($"Invalid type for '{place}': it must be a text, a list of tokens, or an object with a prompt_string or with content in parts.", place);
    }

    private static IEnumerable<int> Tokens(JsonElement part, int index, string place, Tokenizer tokenizer) => part.ValueKind switch
    {
        JsonValueKind.Number when part.TryGetInt32(out var token) && token >= 0 => [token],
        JsonValueKind.String => index == 0 ? tokenizer.EncodePrompt(part.GetString()!) : tokenizer.Encode(part.GetString()!, addSpecialTokens: false),
        _ => throw new RequestException($"Invalid type for '{place}[{index}]': it must be the number of a token.", $"{place}[{index}]"),
    };
}

/// <summary>A prompt: one of both.</summary>
/// <param name="Text">A text.</param>
/// <param name="Tokens">Tokens.</param>
internal sealed record Prompt(string? Text, IReadOnlyList<int>? Tokens);
