using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// Reads and writes the adapter_config.json of the kinds whose settings are a record with a <see cref="SettingAttribute"/> on each: the keys
/// and values are those of the YAML file.
/// </summary>
internal static class KindSettings
{
    // Keys of any kind that change nothing that is computed here.
    private static readonly HashSet<string> s_common =
    [
        "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "peft_type", "task_type", "peft_version", "target_modules", "exclude_modules", "bias",
        "modules_to_save", "layers_to_transform", "layers_pattern", "fan_in_fan_out",
    ];

    /// <summary>Reads the settings.</summary>
    /// <param name="config">Settings with PEFT's defaults, which are set.</param>
    /// <param name="json">The file.</param>
    /// <param name="path">Its path, for messages.</param>
    /// <param name="keys">Further keys: those that must be absent, null, false, 0 or empty, and those that may have any value.</param>
    /// <param name="unknown">Keys that are unknown and have a value.</param>
    /// <exception cref="InvalidDataException">A setting is invalid or not supported.</exception>
    internal static void Read(AdapterConfig config, JsonObject json, string path, (IReadOnlyCollection<string> Unused, IReadOnlyCollection<string> Harmless) keys, out IReadOnlyList<string> unknown)
    {
        var (settings, own) = (new PeftSettings(json, path), SettingInfo.Of(config.GetType()));
        foreach (var key in keys.Unused.Append("fan_in_fan_out"))
        {
            if (!IsUnused(json[key]))
            {
                throw new InvalidDataException($"{path}: {key}: the adapter uses {json[key]!.ToJsonString()}, which is not supported.");
            }
        }

        unknown = [.. json.Where(p => !s_common.Contains(p.Key) && !keys.Unused.Contains(p.Key) && !keys.Harmless.Contains(p.Key) && own.All(s => s.Key != p.Key) && !IsUnused(p.Value)).Select(static p => p.Key)];
        foreach (var setting in own.Where(s => json[s.Key] is not null))
        {
            setting.Property.SetValue(config, Value(settings, setting, json[setting.Key]!, path));
        }
    }

    /// <summary>Writes the settings.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="json">The file's content, to which they are added.</param>
    internal static void Write(AdapterConfig config, JsonObject json)
    {
        foreach (var setting in SettingInfo.Of(config.GetType()))
        {
            json[setting.Key] = Node(setting.Property.GetValue(config), setting.Setting);
        }
    }

    private static bool IsUnused(JsonNode? node) => node?.ToJsonString() is null or "false" or "0" or "0.0" or "null" or "[]" or "{}" or "\"\"";

    private static object Value(PeftSettings settings, SettingInfo setting, JsonNode node, string path)
    {
        var (key, type) = (setting.Key, Nullable.GetUnderlyingType(setting.Property.PropertyType) ?? setting.Property.PropertyType);
        return type == typeof(int) ? Whole(settings.Int(key, node), setting, path)
            : type == typeof(double) ? settings.Number(key, node)
            : type == typeof(bool) ? settings.Flag(key)
            : type == typeof(string) ? Choice(setting, node, path)
            : type == typeof(TextOrList) ? new TextOrList(settings.Texts(key), settings.IsList(key))
            : type == typeof(IReadOnlyList<int>) ? settings.Ints(key)
            : type == typeof(IReadOnlyDictionary<string, int>) ? settings.Map(key, static (s, name, value) => s.Int(name, value))
            : type == typeof(IReadOnlyDictionary<string, double>) ? settings.Map(key, static (s, name, value) => s.Number(name, value))
            : throw new NotSupportedException($"{setting.Property.DeclaringType!.Name}.{setting.Property.Name} has a type without a JSON form");
    }

    private static object Whole(int value, SettingInfo setting, string path) => value >= setting.Setting.Min ? value
        : throw new InvalidDataException(string.Create(CultureInfo.InvariantCulture, $"{path}: {setting.Key}: {value} is less than {setting.Setting.Min}, the smallest that is possible."));

    // Some settings are true, false or a text.
    private static string Choice(SettingInfo setting, JsonNode node, string path)
    {
        var text = node.GetValueKind() is JsonValueKind.True ? "true" : node.GetValueKind() is JsonValueKind.False ? "false" : node.ToString();
        return setting.Setting.Choice(text) ?? throw new InvalidDataException($"{path}: {setting.Key}: '{text}' is not supported; supported are {string.Join(", ", setting.Setting.OneOf)}.");
    }

    private static JsonNode? Node(object? value, SettingAttribute setting) => value switch
    {
        null => null,
        bool flag => flag,
        int number => number,
        double number => PeftConfig.Number(number),
        string text when setting.OneOf.Contains("true") && text is "true" or "false" => text == "true",
        string text => text,
        TextOrList list => list.IsList ? new JsonArray([.. list.Values.Select(static v => (JsonNode)v)]) : list.Values[0],
        IReadOnlyList<int> numbers => new JsonArray([.. numbers.Select(static n => (JsonNode)n)]),
        IReadOnlyDictionary<string, int> map => new JsonObject(map.Select(static p => KeyValuePair.Create(p.Key, (JsonNode?)p.Value))),
        IReadOnlyDictionary<string, double> map => new JsonObject(map.Select(static p => KeyValuePair.Create(p.Key, (JsonNode?)PeftConfig.Number(p.Value)))),
        _ => throw new NotSupportedException(string.Create(CultureInfo.InvariantCulture, $"{value} has no JSON form")),
    };
}
