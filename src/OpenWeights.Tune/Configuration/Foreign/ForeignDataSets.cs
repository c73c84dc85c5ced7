using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Configuration.Foreign;

/// <summary>Converts the data sets in other programs' configs.</summary>
internal static class ForeignDataSets
{
    private static string OnHub(string key) => $"data sets are not downloaded from the Hugging Face Hub; download it yourself and set {key}.path to its files (Parquet or JSON lines).";

    internal static void Axolotl(YamlNode? list, string ours, ConvertedConfig result)
    {
        var sets = list is YamlSequenceNode several ? several.Children : [];
        for (var i = 0; i < sets.Count; i++)
        {
            var (set, key, from) = (sets[i], string.Create(CultureInfo.InvariantCulture, $"{ours}.{i}"), string.Create(CultureInfo.InvariantCulture, $"{(ours == "data.train" ? "datasets" : "test_datasets")}[{i}]"));
            Path(set.Get("data_files").Texts().FirstOrDefault() ?? set.Get("data_files").Text() ?? set.Get("path").Text(), key, from, result);
            var type = set.Get("type").Text()?.Split('.', ':')[0];
            Put(result, key + ".format", type switch { "alpaca" or "alpaca_chat" or "oasst" => "instruction", "chat_template" or "sharegpt" => "chat", "completion" or "pretrain" => "text", "input_output" => "completion", _ => null }, $"type: {type}");
            if (type is not null && !result.Has(key + ".format"))
            {
                result.Leave($"{from}.type", $"'{type}' has no counterpart; the format is detected from the rows, and the setting fields maps other field names.");
            }

            Fields(set, key, type, result);
            if (set.Get("roles") is YamlMappingNode roles)
            {
                Put(result, key + ".roles", Map(roles.Children.Select(static p => (Ours: p.Key.Text() ?? "", Theirs: p.Value.Texts().FirstOrDefault() ?? p.Value.Text() ?? ""))), $"{from}.roles");
            }

            LeaveRest(set, ["path", "data_files", "type", "ds_type", "field_messages", "message_property_mappings", "message_field_role", "message_field_content", "field", "roles", .. TrainsAnswers(set) ? ["roles_to_train"] : Array.Empty<string>()], from, result);
        }
    }

    // What data.train_on: assistant, which is written out, says too.
    private static bool TrainsAnswers(YamlNode set) => set.Get("roles_to_train").Texts().All(static r => r is "assistant" or "gpt");

    internal static void LlamaFactory(YamlMappingNode root, string name, string ours, string folder, string? limit, ConvertedConfig result)
    {
        var sets = root.Get(name) is YamlSequenceNode list ? [.. list.Texts()] : (root.Get(name).Text() ?? "").Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        var data = root.Get("dataset_dir").Text() ?? "data";
        var table = Table(System.IO.Path.GetFullPath(data, folder)) ?? Table(System.IO.Path.GetFullPath(data));
        for (var i = 0; i < sets.Length; i++)
        {
            var key = string.Create(CultureInfo.InvariantCulture, $"{ours}.{i}");
            Put(result, key + ".limit", limit, "max_samples");
            if (table?[sets[i]] is not JsonObject entry)
            {
                result.Set(key + ".path", ForeignValue.Text($"{data}/{sets[i]}.json"), $"{name}: {sets[i]}");
                result.Leave($"{name}: {sets[i]}", $"LLaMA-Factory's dataset_info.json, which gives its file and format, is not in {data}; set {key}.path to the right file.");
                continue;
            }

            var file = entry["file_name"]?.ToString();
            Path(file is null ? entry["hf_hub_url"]?.ToString() : System.IO.Path.Combine(data, file), key, $"{name}: {sets[i]}", result);
            Put(result, key + ".format", entry["formatting"]?.ToString() == "sharegpt" ? "chat" : "instruction", "dataset_info.json");
            var columns = entry["columns"] as JsonObject ?? [];
            var tags = entry["tags"] as JsonObject ?? [];
            Put(result, key + ".fields", Map(columns.Select(static c => (c.Key switch { "prompt" => "instruction", "query" => "input", "response" => "output", var other => other }, c.Value?.ToString() ?? ""))
                .Concat(tags.Where(static t => t.Key is "role_tag" or "content_tag").Select(static t => (t.Key[..^4], t.Value?.ToString() ?? "")))), "columns and tags in dataset_info.json");
            Put(result, key + ".roles", Map(tags.Where(static t => t.Key is "user_tag" or "assistant_tag" or "system_tag").Select(static t => (t.Key[..^4], t.Value?.ToString() ?? ""))), "tags in dataset_info.json");
        }
    }

    internal static void Torchtune(YamlNode? set, string ours, ConvertedConfig result)
    {
        if (set is null)
        {
            return;
        }

        var (key, component) = (ours + ".0", set.Get("_component_").Text() ?? "");
        var kind = component[(component.LastIndexOf('.') + 1)..];
        Path(set.Get("data_files").Text() ?? set.Get("data_files").Texts().FirstOrDefault() ?? set.Get("source").Text(), key, ours == "data.train" ? "dataset" : "dataset_val", result);
        if (!result.Has(key + ".path"))
        {
            result.Set(key + ".path", ForeignValue.Text(kind), component);
            result.Leave(ours == "data.train" ? "dataset" : "dataset_val", $"{kind}: {OnHub(key)}");
        }

        var isAlpaca = kind.StartsWith("alpaca", StringComparison.Ordinal);
        Put(result, key + ".format", kind switch { "chat_dataset" => "chat", "text_completion_dataset" => "text", "instruct_dataset" => "completion", _ => isAlpaca ? "instruction" : null }, kind);
        if (set.Get("column_map") is YamlMappingNode columns)
        {
            Put(result, key + ".fields", Map(columns.Children.Select(p => (Ours: (p.Key.Text(), kind) switch { ("input", "instruct_dataset") => "prompt", ("output", "instruct_dataset") => "completion", (var name, _) => name ?? "" }, Theirs: p.Value.Text() ?? ""))), "column_map");
        }

        if (set.Get("conversation_column").Text() is { } messages)
        {
            Put(result, key + ".fields", Map([("messages", messages)]), "conversation_column");
        }

        Put(result, "data.packing", set.Get("packed").Text()?.ToLowerInvariant(), "dataset.packed");
        Put(result, "data.train_on", set.Get("train_on_input").Text()?.ToLowerInvariant() switch { "true" => "all", "false" => "assistant", _ => isAlpaca ? "all" : null }, set.Get("train_on_input") is null ? $"default of {kind}" : "dataset.train_on_input");
        LeaveRest(set, ["_component_", "source", "data_files", "column_map", "conversation_column", "conversation_style", "packed", "train_on_input", "split"], "dataset", result);
    }

    /// <summary>Converts a data set given by name or path.</summary>
    internal static void Named(YamlMappingNode root, string name, string ours, ConvertedConfig result) => Path(root.Get(name).Text(), ours + ".0", name, result);

    private static void Fields(YamlNode set, string key, string? type, ConvertedConfig result)
    {
        var fields = new List<(string Ours, string Theirs)>();
        void Field(string ours, string? theirs)
        {
            if (theirs is not null)
            {
                fields.Add((ours, theirs));
            }
        }

        Field("messages", set.Get("field_messages").Text());
        Field("text", type is "completion" or "pretrain" ? set.Get("field").Text() : null);
        Field("role", set.Get("message_property_mappings")?.Get("role").Text() ?? set.Get("message_field_role").Text());
        Field("content", set.Get("message_property_mappings")?.Get("content").Text() ?? set.Get("message_field_content").Text());
        Put(result, key + ".fields", Map(fields), "field_messages, message_property_mappings, field");
    }

    private static void Path(string? path, string key, string from, ConvertedConfig result)
    {
        if (path is null)
        {
            return;
        }

        result.Set(key + ".path", ForeignValue.Text(path), from);
        if (path.Count(static c => c == '/') == 1 && System.IO.Path.GetExtension(path).Length == 0 && path[0] is not ('.' or '/' or '~') && !System.IO.Path.Exists(path))
        {
            result.Leave($"{from}: {path}", OnHub(key));
        }
    }

    private static void LeaveRest(YamlNode set, string[] known, string from, ConvertedConfig result)
    {
        foreach (var (name, value) in (set as YamlMappingNode ?? []).Children)
        {
            var key = name.Text() ?? "";
            if (!known.Contains(key) && (value is not YamlScalarNode || value.Text() is not null))
            {
                result.Leave($"{from}.{key}", ForeignNames.Find(key) is { Ours: null, None: { } none } ? none : "a data set has no such setting here.");
            }
        }
    }

    private static string? Map(IEnumerable<(string Ours, string Theirs)> pairs)
    {
        var written = pairs.Where(static p => p.Theirs.Length > 0 && p.Ours != p.Theirs).Select(static p => $"{ForeignValue.Text(p.Ours)}: {ForeignValue.Text(p.Theirs)}").ToList();
        return written.Count == 0 ? null : $"{{ {string.Join(", ", written)} }}";
    }

    private static void Put(ConvertedConfig result, string key, string? value, string comment)
    {
        if (value is { Length: > 0 })
        {
            result.Set(key, value, comment);
        }
    }

    private static JsonObject? Table(string folder)
    {
        var path = System.IO.Path.Combine(folder, "dataset_info.json");
        try
        {
            return File.Exists(path) ? JsonNode.Parse(File.ReadAllText(path)) as JsonObject : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
