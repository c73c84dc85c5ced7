using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tokenizers;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Export.Gguf;

/// <summary>Writes a Modelfile, with which `ollama create` takes a GGUF file.</summary>
internal static class OllamaModelfile
{
    private static readonly (string Key, string Parameter)[] s_sampling =
        [("temperature", "temperature"), ("top_k", "top_k"), ("top_p", "top_p"), ("min_p", "min_p"), ("repetition_penalty", "repeat_penalty")];

    /// <summary>The Modelfile of a model.</summary>
    /// <param name="folder">The model's folder, for its tokenizer, end tokens and sampling settings.</param>
    /// <param name="gguf">Name of the GGUF file, which lies beside the Modelfile.</param>
    /// <param name="chatTemplate">The chat template, if another than the folder's; null for the folder's.</param>
    /// <returns>The text, and a sentence about the template for the user.</returns>
    public static (string Text, string About) Write(ModelFolder folder, string gguf, string? chatTemplate = null)
    {
        ArgumentNullException.ThrowIfNull(folder);
        var tokenizer = Tokenizer.Load(folder.FolderPath);
        tokenizer = chatTemplate is null ? tokenizer : tokenizer.WithChatTemplate(chatTemplate);
        var text = new StringBuilder().Append(CultureInfo.InvariantCulture, $"FROM ./{gguf}\n");
        var about = AppendTemplate(text, tokenizer);
        foreach (var stop in EndTokens.Of(folder, tokenizer).Select(id => tokenizer.Decode([id], skipSpecialTokens: false)).Where(static s => s.Length > 0 && !s.Contains('"')).Distinct())
        {
            _ = text.Append(CultureInfo.InvariantCulture, $"PARAMETER stop \"{stop.Replace("\n", "\\n", StringComparison.Ordinal)}\"\n");
        }

        foreach (var (parameter, value) in Sampling(folder.FolderPath))
        {
            _ = text.Append(CultureInfo.InvariantCulture, $"PARAMETER {parameter} {value}\n");
        }

        return (text.ToString(), about);
    }

    /// <summary>The format of a tokenizer's chat template, and the system message that it writes where there is none.</summary>
    /// <param name="tokenizer">The tokenizer.</param>
    /// <returns>Null if the template is none of the known formats.</returns>
    internal static (OllamaFormat Format, string? DefaultSystem)? Find(ITokenizer tokenizer)
    {
        if (tokenizer.ChatTemplateText is not { } jinja)
        {
            return null;
        }

        // Ollama puts a BOS token before the text where the file says so; of SmolLM2 it is the mark that begins every turn, and stays.
        var template = ChatTemplate.Parse(jinja, tokenizer.ChatTemplateName);
        return Find(template, tokenizer, tokenizer.SpecialTokens.GetValueOrDefault("bos_token")) ?? Find(template, tokenizer, bos: null);
    }

    private static (OllamaFormat Format, string? DefaultSystem)? Find(ChatTemplate template, ITokenizer tokenizer, string? bos)
    {
        string? Rendered(JsonArray messages, int year)
        {
            var text = Render(template, tokenizer, messages, year);
            return bos is { Length: > 0 } && text?.StartsWith(bos, StringComparison.Ordinal) == true ? text[bos.Length..] : text;
        }

        foreach (var format in OllamaFormat.All)
        {
            if (DefaultSystem(format, Rendered(Chat(null, 1), 2024)) is not { } own)
            {
                continue;
            }

            // What differs with the date, or rejects a system message, is checked with all conversations.
            var chats = new List<JsonArray> { Chat(own, 1), Chat(own, 2), Chat(own, 3) };
            var isSystemRefused = Rendered(Chat("Be brief.", 1), 2024) is null;
            chats.AddRange(isSystemRefused ? [] : [Chat("Be brief.\n\nReally.", 1), Chat("Be brief.", 2), Chat("Be brief.", 3)]);
            if (chats.TrueForAll(chat => (int[])[2024, 2031] is var years && Array.TrueForAll(years, year => Rendered(Asked(chat, own), year) == format.Render(chat))))
            {
                return (format, own.Length > 0 ? own : null);
            }
        }

        return null;
    }

    // A chat as it is asked: a system message that the template adds itself is left out.
    private static JsonArray Asked(JsonArray chat, string own) =>
        own.Length > 0 && chat[0]!["content"]!.ToString() == own ? [.. chat.Skip(1).Select(static m => m!.DeepClone())] : chat;

    // The system message that the template writes by itself, "" for none; null if the conversation has another form.
    private static string? DefaultSystem(OllamaFormat format, string? rendered)
    {
        var alone = format.Render(Chat(null, 1));
        if (rendered == alone || rendered is null)
        {
            return rendered is null ? null : "";
        }

        return format.System == OllamaSystem.Turn && rendered.StartsWith(format.SystemOpen, StringComparison.Ordinal) && rendered.EndsWith(format.SystemClose + alone, StringComparison.Ordinal)
            ? rendered[format.SystemOpen.Length..^(format.SystemClose + alone).Length]
            : null;
    }

    private static string? Render(ChatTemplate template, ITokenizer tokenizer, JsonArray messages, int year)
    {
        try
        {
            return template.Render(new ChatTemplateInput
            {
                Messages = messages.DeepClone().AsArray(),
                AddGenerationPrompt = true,
                SpecialTokens = tokenizer.SpecialTokens,
                Now = new DateTimeOffset(year, 3, 4, 5, 6, 7, TimeSpan.Zero),
            });
        }
        catch (ChatTemplateException)
        {
            return null;
        }
    }

    private static JsonArray Chat(string? system, int turns)
    {
        static JsonObject Message(string role, string content) => new() { ["role"] = role, ["content"] = content };
        var chat = new JsonArray();
        if (!string.IsNullOrEmpty(system))
        {
            chat.Add(Message("system", system));
        }

        for (var turn = 1; turn <= turns; turn++)
        {
            chat.Add(Message("user", $"Question {turn}:\n\n  what  is it?"));
            if (turn < turns)
            {
                chat.Add(Message("assistant", $"It is {turn}.\n- so"));
            }
        }

        return chat;
    }

    private static string AppendTemplate(StringBuilder text, ITokenizer tokenizer)
    {
        if (tokenizer.ChatTemplateText is null)
        {
            return "The model has no chat template, so the Modelfile has none.";
        }

        if (Find(tokenizer) is not { } found)
        {
            const string about = "The model's chat template is none of those that can be written for Ollama (ChatML, Llama 3, Mistral, Gemma, Phi), so the Modelfile has no TEMPLATE; Ollama then looks for one of its own that resembles the model's.";
            _ = text.Append(CultureInfo.InvariantCulture, $"# {about}\n");
            return about;
        }

        _ = text.Append(CultureInfo.InvariantCulture, $"TEMPLATE \"\"\"{found.Format.Template()}\"\"\"\n");
        if (found.DefaultSystem is { } system)
        {
            _ = text.Append(CultureInfo.InvariantCulture, $"SYSTEM \"\"\"{system}\"\"\"\n");
        }

        return $"Its TEMPLATE is {found.Format.Name}'s, which the model's chat template equals but for tools and reasoning.";
    }

    private static IEnumerable<(string Parameter, string Value)> Sampling(string folder)
    {
        var path = Path.Combine(folder, "generation_config.json");
        if (!File.Exists(path) || JsonNode.Parse(File.ReadAllText(path)) is not JsonObject settings || settings["do_sample"]?.GetValueKind() == JsonValueKind.False)
        {
            yield break;
        }

        foreach (var (key, parameter) in s_sampling)
        {
            if (settings[key] is JsonValue value && value.GetValueKind() == JsonValueKind.Number)
            {
                yield return (parameter, value.ToJsonString());
            }
        }
    }
}
