using System.Text.Json.Nodes;
using OpenWeights.Formats.Json;

namespace OpenWeights.Tune.Configuration;

/// <summary>JSON schema of train.yaml, for validation and completion in editors.</summary>
internal static class ConfigSchema
{
    /// <summary>Text of the schema (JSON Schema draft 2020-12).</summary>
    public static string Write()
    {
        var schema = Section(typeof(RunConfig), new RunConfig());
        var root = new JsonObject
        {
            ["$schema"] = "https://json-schema.org/draft/2020-12/schema",
            ["title"] = "A run of OpenWeights.Tune",
        };
        foreach (var (key, value) in schema.ToList())
        {
            schema.Remove(key);
            root[key] = value;
        }

        return PythonJson.Serialize(root, indent: 2, sortKeys: false, ensureAscii: false) + "\n";
    }

    private static JsonObject Section(Type type, object? defaults)
    {
        var properties = new JsonObject();
        var required = new JsonArray();
        foreach (var setting in SettingInfo.Of(type))
        {
            var value = Value(setting.Property.PropertyType, setting.Setting, defaults is null ? null : setting.Property.GetValue(defaults));
            value["description"] = setting.Setting.Description;
            properties[setting.Key] = value;
            if (setting.Setting.Required)
            {
                required.Add(setting.Key);
            }
        }

        if (type == typeof(AdapterSection))
        {
            AddOtherTypes(properties);
        }

        var section = new JsonObject { ["type"] = "object", ["additionalProperties"] = false, ["properties"] = properties };
        if (required.Count > 0)
        {
            section["required"] = required;
        }

        return section;
    }

    // Settings of the types besides LoRA; several types may have one of the same name with other values and defaults.
    private static void AddOtherTypes(JsonObject properties)
    {
        var lora = properties.Select(static p => p.Key).ToHashSet();
        var all = AdapterTypes.Others.SelectMany(static t => SettingInfo.Of(t.Value).Select(s => (Type: t.Key, Info: s)));
        foreach (var setting in all.GroupBy(static s => s.Info.Key).OrderBy(static g => g.Key, StringComparer.Ordinal))
        {
            var forms = setting.Select(static s => Value(s.Info.Property.PropertyType, s.Info.Setting, null)).DistinctBy(static v => v.ToJsonString()).ToList();
            var note = string.Join(" ", setting.GroupBy(static s => s.Info.Setting.Description).Select(static g => $"{string.Join(", ", g.Select(static s => s.Type))}: {g.Key}"));
            if (lora.Contains(setting.Key))
            {
                var own = properties[setting.Key]!;
                own["description"] = $"{own["description"]} {note}";
                continue;
            }

            var value = forms.Count == 1 ? forms[0] : new JsonObject { ["anyOf"] = new JsonArray([.. forms]) };
            value["description"] = note;
            properties[setting.Key] = value;
        }
    }

    private static JsonObject Value(Type type, SettingAttribute setting, object? fallback)
    {
        var wanted = Nullable.GetUnderlyingType(type) ?? type;
        if (wanted == typeof(object))
        {
            return [];
        }

        if (SettingInfo.IsSection(wanted) && wanted != typeof(TextOrList))
        {
            return Section(wanted, fallback ?? Activator.CreateInstance(wanted));
        }

        var value = wanted == typeof(TextOrList) ? Texts()
            : wanted != typeof(string) && wanted.IsGenericType ? Collection(wanted, setting)
            : Scalar(wanted, setting);
        if (fallback is bool or int or long or double or string { Length: > 0 })
        {
            value["default"] = JsonValue.Create(fallback);
        }
        else if (fallback is TextOrList { IsList: false } text)
        {
            value["default"] = text.Values[0];
        }

        return value;
    }

    private static JsonObject Texts() => new()
    {
        ["anyOf"] = new JsonArray(
            new JsonObject { ["type"] = "string" },
            new JsonObject { ["type"] = "array", ["items"] = new JsonObject { ["type"] = "string" } }),
    };

    private static JsonObject Collection(Type type, SettingAttribute setting)
    {
        var arguments = type.GetGenericArguments();
        return arguments.Length == 2 && arguments[1] == typeof(IReadOnlyList<int>)
            ? new JsonObject { ["anyOf"] = new JsonArray(Value(arguments[1], setting, null), new JsonObject { ["type"] = "object", ["additionalProperties"] = Value(arguments[1], setting, null) }) }
            : arguments.Length == 2
            ? new JsonObject { ["type"] = "object", ["additionalProperties"] = Value(arguments[1], setting, null) }
            : new JsonObject { ["anyOf"] = new JsonArray(new JsonObject { ["type"] = "array", ["items"] = Item(arguments[0], setting) }, Item(arguments[0], setting)) };
    }

    // A single value stands for a list of one, a path for a data set, a kind for a reward, and a text for a new token.
    private static JsonObject Item(Type type, SettingAttribute setting) => type == typeof(DataSource) || type == typeof(RewardSection) || type == typeof(NewTokenSection)
        ? new JsonObject { ["anyOf"] = new JsonArray(Value(type, setting, null), new JsonObject { ["type"] = "string" }) }
        : Value(type, setting, null);

    private static JsonObject Scalar(Type type, SettingAttribute setting)
    {
        var value = new JsonObject { ["type"] = type == typeof(bool) ? "boolean" : type == typeof(string) ? "string" : type == typeof(double) ? "number" : "integer" };
        if (setting.OneOf.Length > 0)
        {
            value["enum"] = new JsonArray([.. setting.OneOf.Select(static o => (JsonNode)o)]);
            if (setting.OrOwnClass)
            {
                return new JsonObject { ["anyOf"] = new JsonArray(value, new JsonObject { ["type"] = "string", ["pattern"] = @"\.dll(:.+)?$" }) };
            }

            foreach (var text in setting.OneOf.Where(static o => o is "true" or "false").Reverse())
            {
                // In YAML an unquoted true is a Boolean.
                value["enum"]!.AsArray().Insert(0, text == "true");
                _ = value.Remove("type");
            }
        }

        if (type != typeof(string) && type != typeof(bool))
        {
            Bound(value, "minimum", setting.Min);
            Bound(value, "maximum", setting.Max);
        }

        return value;
    }

    private static void Bound(JsonObject value, string key, double bound)
    {
        if (double.IsFinite(bound))
        {
            value[key] = bound == Math.Floor(bound) ? JsonValue.Create((long)bound) : JsonValue.Create(bound);
        }
    }
}
