using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>A tokenizer of bytes with the tokens of ChatML, for models of <see cref="TinyModel.Vocabulary"/> and more rows.</summary>
internal static class SmallTokenizer
{
    internal const int Bos = 256;
    internal const int Eos = 257;
    internal const int TurnStart = 258;
    internal const int TurnEnd = 259;
    internal const int Vocabulary = 264;

    internal const string ChatMl =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

    /// <summary>Writes the tokenizer into a folder, with more special tokens behind its own.</summary>
    internal static void Write(string folder, bool addsBos = true, Action<JsonObject>? change = null, params string[] specials)
    {
        ByteTokenizer.Write(folder);
        var path = Path.Combine(folder, "tokenizer.json");
        var json = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
        json["added_tokens"] = new JsonArray([.. new[] { "<s>", "</s>", "<|im_start|>", "<|im_end|>" }.Concat(specials).Select(static (t, i) => (JsonNode)new JsonObject { ["id"] = 256 + i, ["content"] = t, ["special"] = true })]);
        File.WriteAllText(path, json.ToJsonString());
        var settings = new JsonObject { ["bos_token"] = "<s>", ["eos_token"] = "</s>", ["add_bos_token"] = addsBos, ["add_eos_token"] = false, ["chat_template"] = ChatMl };
        change?.Invoke(settings);
        File.WriteAllText(Path.Combine(folder, "tokenizer_config.json"), settings.ToJsonString());
    }
}
