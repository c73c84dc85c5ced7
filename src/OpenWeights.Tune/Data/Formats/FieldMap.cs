using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Files;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>Maps the field and role names of a data set to those that the formats expect.</summary>
internal sealed class FieldMap(DataSource source)
{
    private static readonly string[] s_lists = ["messages", "conversations", "prompt", "chosen", "rejected"];
    private static readonly string[] s_answers = ["completion", "chosen", "rejected"];
    private readonly Dictionary<string, string> _roles = source.Roles.ToDictionary(static r => r.Value, static r => r.Key);

    /// <summary>The row with mapped names.</summary>
    /// <exception cref="InvalidDataException">A mapped field is missing.</exception>
    internal DataRow Apply(DataRow row)
    {
        RowMedia.Refuse(row);
        return Separated(source.Fields.Count == 0 && _roles.Count == 0 ? row : Renamed(row));
    }

    /// <summary>Whether there is no white space between the prompt and an answer of a text row, which may be a mistake.</summary>
    internal bool RunsTogether(DataRow row) =>
        source.Separator is null && Text(row, "prompt") is { Length: > 0 } prompt && !char.IsWhiteSpace(prompt[^1])
        && s_answers.Any(key => Text(row, key) is { Length: > 0 } answer && !char.IsWhiteSpace(answer[0]));

    private static string? Text(DataRow row, string field) => row.Json[field] is JsonValue value && value.GetValueKind() == JsonValueKind.String ? value.GetValue<string>() : null;

    private DataRow Separated(DataRow row)
    {
        if (source.Separator is not { Length: > 0 } separator || Text(row, "prompt") is not { } prompt)
        {
            return row;
        }

        var json = row.Json.DeepClone().AsObject();
        json["prompt"] = prompt + separator;
        return row with { Json = json };
    }

    private DataRow Renamed(DataRow row)
    {

        var named = new JsonObject();
        foreach (var (field, name) in source.Fields.Where(static f => f.Key is not ("role" or "content")))
        {
            named[field] = Find(row, field, name)?.DeepClone();
        }

        // If fields are mapped, unmapped ones are ignored, except those common to all formats.
        foreach (var (key, value) in row.Json)
        {
            if (!named.ContainsKey(key) && (named.Count == 0 || key is "tools" or "system" or "system_prompt" or "history"))
            {
                named[key] = value?.DeepClone();
            }
        }

        foreach (var key in s_lists)
        {
            foreach (var message in (named[key] as JsonArray)?.OfType<JsonObject>() ?? [])
            {
                Rename(message);
            }
        }

        return row with { Json = named };
    }

    private static JsonNode? Find(DataRow row, string field, string name)
    {
        if (row.Json.TryGetPropertyValue(name, out var whole))
        {
            return whole;
        }

        JsonNode? node = row.Json;
        foreach (var part in name.Split('.'))
        {
            node = node switch
            {
                JsonObject map when map.TryGetPropertyValue(part, out var value) => value,
                JsonArray list when int.TryParse(part, out var at) && at >= 0 && at < list.Count => list[at],
                _ => throw row.Error($"the config maps {field} to \"{name}\", but this row has no \"{name}\"; it has {string.Join(", ", row.Json.Select(static p => p.Key).Take(20))}."),
            };
        }

        return node;
    }

    private void Rename(JsonObject message)
    {
        foreach (var field in (string[])["role", "content"])
        {
            if (source.Fields.TryGetValue(field, out var name) && name != field && message.TryGetPropertyValue(name, out var value))
            {
                _ = message.Remove(name);
                message[field] = value?.DeepClone();
            }
        }

        var key = message.ContainsKey("role") ? "role" : "from";
        if (message[key] is JsonValue role && role.GetValueKind() == JsonValueKind.String && _roles.TryGetValue(role.GetValue<string>(), out var known))
        {
            message[key] = known;
        }
    }
}
