using System.Globalization;

namespace OpenWeights.Tokenizers;

/// <summary>Reads the files beside a tokenizer: tokenizer_config.json, special_tokens_map.json, chat templates, config.json.</summary>
internal static class SettingsReader
{
    private const string Config = "tokenizer_config.json";
    private const string SpecialMap = "special_tokens_map.json";
    private const string TemplateJson = "chat_template.json";
    private const int MostExtraIds = 10_000;

    /// <summary>Reads a folder's files; absent ones leave the settings empty.</summary>
    public static TokenizerSettings Read(string folder)
    {
        var config = ReadObject(folder, Config);
        var special = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var source in new[] { config, ReadObject(folder, SpecialMap) })
        {
            AddSpecialTokens(source, special);
        }

        return new TokenizerSettings
        {
            Source = Path.Combine(folder, Config),
            SpecialTokens = special,
            ChatTemplates = ReadTemplates(folder, config, out var place),
            ChatTemplateName = place,
            AddedTokens = ReadAddedTokens(folder, config),
            TokenizerClass = WithoutFast(config?["tokenizer_class"].TextOrNull()),
            ModelType = ReadModelType(folder),
            AddBosToken = config?["add_bos_token"].FlagOrNull(),
            AddEosToken = config?["add_eos_token"].FlagOrNull(),
            AddPrefixSpace = config?["add_prefix_space"].FlagOrNull(),
            ExtraIds = config?["extra_ids"] is { IsNull: false } extra ? ExtraIds(extra) : null,
            Legacy = config?["legacy"].FlagOrNull(),
        };
    }

    // Each of them becomes a token, so that a number of the file decides how much memory is taken.
    private static int ExtraIds(JsonSection section) =>
        section.Count() is <= MostExtraIds and var count ? count : throw section.Error($"there cannot be more than {MostExtraIds} extra ids.");

    private static JsonSection? ReadObject(string folder, string name)
    {
        var file = Path.Combine(folder, name);
        if (!File.Exists(file))
        {
            return null;
        }

        var section = JsonSection.Read(file);
        return section.IsObject ? section : throw section.Error("must be a JSON object.");
    }

    private static string? ReadModelType(string folder)
    {
        var section = ReadObject(folder, "config.json");
        return section?["model_type"] is { IsString: true } type ? type.Text() : null;
    }

    private static string? WithoutFast(string? name) => name?.EndsWith("Fast", StringComparison.Ordinal) == true ? name[..^4] : name;

    /// <summary>Special tokens are strings, or objects with the string as <c>content</c>; the first file that has a name counts.</summary>
    private static void AddSpecialTokens(JsonSection? section, Dictionary<string, string> special)
    {
        if (section is null)
        {
            return;
        }

        foreach (var (key, value) in section.Value.Members())
        {
            if (!key.EndsWith("_token", StringComparison.Ordinal) || special.ContainsKey(key))
            {
                continue;
            }

            if (value.IsString)
            {
                special.Add(key, value.Text());
            }
            else if (value.IsObject && value["content"].IsString)
            {
                special.Add(key, value["content"].Text());
            }
        }
    }

    private static List<AddedToken> ReadAddedTokens(string folder, JsonSection? config)
    {
        var tokens = new List<AddedToken>();
        if (config?["added_tokens_decoder"] is not { IsNull: false } decoder)
        {
            return File.Exists(Path.Combine(folder, "tokenizer.json")) ? tokens : ReadOlderAddedTokens(folder, config);
        }

        foreach (var (key, value) in decoder.Members())
        {
            if (!int.TryParse(key, NumberStyles.None, CultureInfo.InvariantCulture, out var id))
            {
                throw value.Error($"the key must be an id, not \"{key}\".");
            }

            var token = AddedTokenReader.ReadToken(value, value["content"].Text(), id);
            if (token.Content.Length > 0)
            {
                tokens.Add(token);
            }
        }

        return [.. tokens.OrderBy(t => t.Id)];
    }

    /// <summary>added_tokens.json, which checkpoints saved before transformers 4.34 have in the place of <c>added_tokens_decoder</c>. It holds
    /// no flags: special are the tokens that the special ones' settings name.</summary>
    private static List<AddedToken> ReadOlderAddedTokens(string folder, JsonSection? config)
    {
        if (ReadObject(folder, "added_tokens.json") is not { } ids)
        {
            return [];
        }

        var special = new HashSet<string>(StringComparer.Ordinal);
        foreach (var source in new[] { config, ReadObject(folder, SpecialMap) }.OfType<JsonSection>())
        {
            foreach (var (key, value) in source.Members())
            {
                if (key is "additional_special_tokens" or "extra_special_tokens" && !value.IsNull && !value.IsString && !value.IsObject)
                {
                    special.UnionWith(value.Elements().Select(ContentOf).OfType<string>());
                }
                else if (key.EndsWith("_token", StringComparison.Ordinal) && ContentOf(value) is { } content)
                {
                    _ = special.Add(content);
                }
            }
        }

        return [.. ids.Members().Where(m => m.Key.Length > 0)
            .Select(m => new AddedToken(m.Key, Id(m.Value)) { Special = special.Contains(m.Key), Normalized = !special.Contains(m.Key) })
            .OrderBy(t => t.Id)];
    }

    private static int Id(JsonSection value) =>
        value.Count() is <= Vocabulary.LargestId and var id ? id : throw value.Error($"the id is not in 0..{Vocabulary.LargestId}.");

    private static string? ContentOf(JsonSection value) => value.IsString ? value.Text() : value.IsObject && value["content"].IsString ? value["content"].Text() : null;

    private static Dictionary<string, string> ReadTemplates(string folder, JsonSection? config, out string place)
    {
        var templates = new Dictionary<string, string>(StringComparer.Ordinal);
        var jinja = Path.Combine(folder, "chat_template.jinja");
        place = jinja;
        if (File.Exists(jinja))
        {
            templates["default"] = File.ReadAllText(jinja);
            var others = Path.Combine(folder, "additional_chat_templates");
            foreach (var file in Directory.Exists(others) ? Directory.EnumerateFiles(others, "*.jinja") : [])
            {
                templates[Path.GetFileNameWithoutExtension(file)] = File.ReadAllText(file);
            }

            return templates;
        }

        var section = config?["chat_template"] is { IsNull: false } own ? own : ReadObject(folder, TemplateJson)?["chat_template"];
        place = $"the chat template in {Path.Combine(folder, config?["chat_template"] is { IsNull: false } ? Config : TemplateJson)}";
        if (section is { IsNull: false } value)
        {
            AddTemplates(value, templates);
        }

        return templates;
    }

    private static void AddTemplates(JsonSection section, Dictionary<string, string> templates)
    {
        if (section.IsString)
        {
            templates["default"] = section.Text();
            return;
        }

        if (section.IsObject)
        {
            foreach (var (name, value) in section.Members())
            {
                templates[name] = value.Text();
            }

            return;
        }

        foreach (var element in section.Elements())
        {
            templates[element["name"].Text()] = element["template"].Text();
        }
    }
}
