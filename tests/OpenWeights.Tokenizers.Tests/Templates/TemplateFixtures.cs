using System.Text.Json;
using System.Text.Json.Nodes;

using OpenWeights.Testing;
using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tokenizers.Tests.Templates;

/// <summary>Chat templates, message lists and reference renderings: the committed ones, and the published ones that may lie beside the checkout.</summary>
internal static class TemplateFixtures
{
    /// <summary>The moment at which the reference rendered.</summary>
    public static readonly DateTimeOffset Now = new(2025, 7, 4, 12, 34, 56, TimeSpan.Zero);

    private static readonly Dictionary<string, string> PlainTokens = new() { ["bos_token"] = "<s>", ["eos_token"] = "</s>" };

    /// <summary>The names of the files of reference renderings, one for each template.</summary>
    public static IEnumerable<string> GoldenNames() => SharedFiles.FindFiles("*__*.json", "goldens", "chat").Select(path => Path.GetFileName(path));

    /// <summary>All templates of the fixtures by their paths there, with and without reference renderings.</summary>
    public static IEnumerable<string> TemplatePaths() =>
        SharedFiles.FindNames("*.jinja", "fixtures")
            .Concat(SharedFiles.FindNames("tokenizer_config.json", "fixtures").Concat(SharedFiles.FindNames("chat_template.json", "fixtures")).Where(path => Load(path) is not null))
            .Order(StringComparer.Ordinal);

    public static PublishedTemplate ReadTemplate(string path) => Load(path) ?? throw new FileNotFoundException($"{path} has no chat template");

    public static List<JsonObject> Cases() =>
        [.. JsonNode.Parse(File.ReadAllText(SharedFiles.Require("goldens", "chat", "cases.json")))!.AsArray().Select(node => node!.AsObject())];

    public static JsonObject Case(string name) => Cases().Single(item => item["name"]!.GetValue<string>() == name);

    /// <summary>The input of a case of the reference, for a template's own special tokens.</summary>
    public static ChatTemplateInput Input(JsonObject item, Dictionary<string, string> specialTokens, bool? addGenerationPrompt = null)
    {
        var tokens = new Dictionary<string, string>(specialTokens);
        foreach (var name in new[] { "bos_token", "eos_token" })
        {
            if (item[name] is { } token)
            {
                tokens[name] = token.GetValue<string>();
            }
        }

        return new ChatTemplateInput
        {
            Messages = item["messages"]!.AsArray(),
            Tools = item["tools"],
            Documents = item["documents"],
            AddGenerationPrompt = addGenerationPrompt ?? item["add_generation_prompt"]!.GetValue<bool>(),
            SpecialTokens = tokens,
            Variables = item["kwargs"]?.AsObject(),
            Now = Now,
        };
    }

    private static PublishedTemplate? Load(string path)
    {
        var text = File.ReadAllText(SharedFiles.Require(["fixtures", .. path.Split('/')]));
        if (path.EndsWith(".jinja", StringComparison.Ordinal))
        {
            return new PublishedTemplate(ChatTemplate.Parse(text, path), text, PlainTokens);
        }

        var config = JsonNode.Parse(text)!.AsObject();
        if (config["chat_template"] is not JsonValue template)
        {
            return null;
        }

        var source = template.GetValue<string>();
        return new PublishedTemplate(ChatTemplate.Parse(source, path), source, TokensOf(config));
    }

    private static Dictionary<string, string> TokensOf(JsonObject config)
    {
        var tokens = new Dictionary<string, string>();
        foreach (var (name, value) in config)
        {
            var token = value is JsonObject added ? added["content"] : value;
            if (name.EndsWith("_token", StringComparison.Ordinal) && token?.GetValueKind() == JsonValueKind.String)
            {
                tokens[name] = token.GetValue<string>();
            }
        }

        return tokens.Count > 0 ? tokens : PlainTokens;
    }
}

/// <summary>A template as published, with the special tokens of its tokenizer.</summary>
internal sealed record PublishedTemplate(ChatTemplate Template, string Source, Dictionary<string, string> SpecialTokens);
