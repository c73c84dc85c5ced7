using System.Collections;
using System.Globalization;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Configuration;

/// <summary>Binds YAML nodes to config sections. It continues after a problem, to report all of them at once.</summary>
internal sealed class ConfigBinder(YamlSource source)
{
    private readonly List<ConfigProblem> _problems = [];
    private readonly Dictionary<string, YamlNode> _nodes = [];

    internal IReadOnlyList<ConfigProblem> Problems => _problems;

    /// <summary>Position of a setting in the file, or of the nearest enclosing section if the setting is absent.</summary>
    internal string PlaceOf(string key)
    {
        for (var at = key; at.Length > 0; at = at.LastIndexOf('.') is > 0 and var dot ? at[..dot] : "")
        {
            if (_nodes.TryGetValue(at, out var node))
            {
                return source.PlaceOf(node);
            }
        }

        return source.Path;
    }

    internal T Bind<T>(string prefix = "")
        where T : new() => (T)Section(typeof(T), source.Root, prefix);

    private object Section(Type type, YamlMappingNode node, string prefix)
    {
        var adapterType = type == typeof(AdapterSection) ? TypeOf(node) : null;
        var section = adapterType is not null && AdapterTypes.Others.ContainsKey(adapterType) ? new AdapterSection { Type = adapterType } : Activator.CreateInstance(type)!;
        var settings = SettingInfo.OfSection(section);
        string? before = null;
        foreach (var (name, value) in node.Children)
        {
            var key = (name as YamlScalarNode)?.Value ?? "";
            var full = prefix + key;
            if (settings.FirstOrDefault(s => s.Key == key) is not { } setting)
            {
                Report(name, full, node.Style == YamlDotNet.Core.Events.MappingStyle.Flow && value is YamlScalarNode { Value: "" or null, Style: ScalarStyle.Plain } && before is not null
                    ? $"there is no such setting. Within braces a comma ends a value; several values are a list in brackets: [{before}, {key}]."
                    : UnknownSetting.Message(prefix, key, value, settings, adapterType));
                continue;
            }

            before = (value as YamlScalarNode)?.Value;

            if (Value(setting.Property.PropertyType, value, full, setting.Setting) is { } bound)
            {
                setting.Set(section, bound);
                if (bound is "" && setting.Setting.Required)
                {
                    Report(value, full, Missing(setting));
                }
            }
            else if (IsNull(value) && setting.Setting.Required)
            {
                Report(value, full, Missing(setting));
            }
            else if (IsNull(value) && Nullable(setting))
            {
                setting.Set(section, null);
            }
        }

        foreach (var missing in settings.Where(s => s.Setting.Required && !node.Children.ContainsKey(new YamlScalarNode(s.Key))))
        {
            Report(node, prefix + missing.Key, Missing(missing));
        }

        return section;
    }

    // An adapter's type decides which settings the section has.
    private static string TypeOf(YamlMappingNode node) =>
        node.Children.TryGetValue(new YamlScalarNode("type"), out var type) && type is YamlScalarNode { Value: { } name } ? name.ToLowerInvariant() : AdapterTypes.Lora;

    internal static string Missing(SettingInfo setting) => $"this setting is required. {setting.Setting.Description}";

    // Returns null if the node is YAML's null, or if a problem was reported.
    private object? Value(Type type, YamlNode node, string key, SettingAttribute setting)
    {
        var wanted = System.Nullable.GetUnderlyingType(type) ?? type;
        _nodes[key] = node;
        if (IsNull(node))
        {
            if (!IsOptional(type) && !typeof(IEnumerable).IsAssignableFrom(wanted))
            {
                Report(node, key, "a value is expected here.");
            }

            return null;
        }

        if (wanted == typeof(TextOrList))
        {
            return Texts(node, key);
        }

        if (SettingInfo.IsSection(wanted))
        {
            return node is YamlMappingNode mapping ? Section(wanted, mapping, key + ".")
                : wanted == typeof(DataSource) && node is YamlScalarNode path ? Source(path, key)
                : wanted == typeof(RewardSection) && node is YamlScalarNode kind ? Reward(kind, key)
                : wanted == typeof(NewTokenSection) && node is YamlScalarNode { Value.Length: > 0 } token ? new NewTokenSection { Token = token.Value }
                : WrongSection(wanted, node, key);
        }

        if (wanted != typeof(string) && wanted.IsGenericType)
        {
            return Collection(wanted, node, key, setting);
        }

        return node is YamlScalarNode scalar ? Scalar(wanted, scalar, key, setting) : Problem(node, key, $"{Wanted(wanted)} is expected here, not a list or a section.");
    }

    // Returns a default section, so that the required setting is not also reported as missing and a list keeps its length.
    private object WrongSection(Type section, YamlNode node, string key)
    {
        Report(node, key, node is YamlScalarNode { Value: { } text } && text.IndexOf(':', StringComparison.Ordinal) is > 0 and var colon && SettingInfo.Of(section).Any(s => s.Key == text[..colon])
            ? $"a space is missing after the colon; write `{text[..colon]}: {text[(colon + 1)..].Trim()}`."
            : $"a section with settings is expected here, such as `{{ {Example(section, node)} }}`.");
        return Activator.CreateInstance(section)!;
    }

    private static string Example(Type section, YamlNode node) => node switch
    {
        YamlScalarNode { Value.Length: > 0 } path when section == typeof(ModelSection) => $"path: {path.Value}",
        YamlScalarNode { Value.Length: > 0 } path when section == typeof(DataSection) => $"train: {path.Value}",
        _ => "key: value",
    };

    private object? Collection(Type type, YamlNode node, string key, SettingAttribute setting)
    {
        var arguments = type.GetGenericArguments();
        if (arguments.Length == 2)
        {
            // A list stands for that of the embedding.
            if (node is YamlSequenceNode && arguments[1] == typeof(IReadOnlyList<int>))
            {
                return Value(arguments[1], node, key, setting) is IReadOnlyList<int> tokens ? new Dictionary<string, IReadOnlyList<int>> { ["embed_tokens"] = tokens } : null;
            }

            return node is YamlMappingNode mapping ? Dictionary(arguments[1], mapping, key, setting) : Problem(node, key, $"names with values are expected here, such as `{{ {(arguments[1] == typeof(object) ? "enable_thinking: false" : "q_proj: 8")} }}`.");
        }

        // A single value stands for a list of one.
        IList<YamlNode> items = node is YamlSequenceNode sequence ? sequence.Children : [node];
        var list = (IList)Activator.CreateInstance(typeof(List<>).MakeGenericType(arguments[0]))!;
        for (var i = 0; i < items.Count; i++)
        {
            if (Value(arguments[0], items[i], string.Create(CultureInfo.InvariantCulture, $"{key}.{i}"), setting) is { } item)
            {
                _ = list.Add(item);
            }
        }

        // Numbers belong together: where one is wrong, nothing can be said of the others.
        return list.Count == items.Count || !arguments[0].IsPrimitive ? list : null;
    }

    private object Dictionary(Type value, YamlMappingNode mapping, string key, SettingAttribute setting)
    {
        if (value == typeof(object))
        {
            return FreeMap(mapping, key);
        }

        var dictionary = (IDictionary)Activator.CreateInstance(typeof(Dictionary<,>).MakeGenericType(typeof(string), value))!;
        foreach (var (name, node) in mapping.Children)
        {
            var inner = (name as YamlScalarNode)?.Value ?? "";
            if (Value(value, node, $"{key}.{inner}", setting) is { } item)
            {
                dictionary[inner] = item;
            }
        }

        return dictionary;
    }

    // Names and values passed on to another component; they are not settings of this program.
    private Dictionary<string, object?> FreeMap(YamlMappingNode mapping, string key)
    {
        var map = new Dictionary<string, object?>();
        foreach (var (name, node) in mapping.Children)
        {
            var inner = (name as YamlScalarNode)?.Value ?? "";
            _nodes[$"{key}.{inner}"] = node;
            map[inner] = Free(node, $"{key}.{inner}");
        }

        return map;
    }

    private object? Free(YamlNode node, string key) => node switch
    {
        YamlMappingNode mapping => FreeMap(mapping, key),
        YamlSequenceNode list => list.Children.Select((item, i) => Free(item, string.Create(CultureInfo.InvariantCulture, $"{key}.{i}"))).ToList(),
        YamlScalarNode scalar => FreeScalar(scalar),
        _ => null,
    };

    // Types follow YAML's core schema.
    private static object? FreeScalar(YamlScalarNode node)
    {
        var text = node.Value ?? "";
        return node.Style is not (ScalarStyle.Plain or ScalarStyle.Any) ? text
            : IsNull(node) ? null
            : text is "true" or "True" or "TRUE" ? true
            : text is "false" or "False" or "FALSE" ? false
            : long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var whole) ? whole
            : double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && double.IsFinite(number) && text.Any(char.IsAsciiDigit) ? number
            : text;
    }

    // A path alone stands for a data set.
    private DataSource? Source(YamlScalarNode node, string key)
    {
        var setting = SettingInfo.Of(typeof(DataSource)).First(static s => s.Key == "path").Setting;
        return Scalar(typeof(string), node, key + ".path", setting) is string path ? new DataSource { Path = path } : null;
    }

    // A kind alone stands for a reward.
    private RewardSection? Reward(YamlScalarNode node, string key)
    {
        var setting = SettingInfo.Of(typeof(RewardSection)).First(static s => s.Key == "type").Setting;
        return Scalar(typeof(string), node, key + ".type", setting) is string type ? new RewardSection { Type = type } : null;
    }

    private TextOrList? Texts(YamlNode node, string key)
    {
        switch (node)
        {
            case YamlScalarNode { Value: { } text }:
                return new TextOrList([text], IsList: false);
            case YamlSequenceNode list when list.Children.All(static c => c is YamlScalarNode):
                for (var i = 0; i < list.Children.Count; i++)
                {
                    _nodes[string.Create(CultureInfo.InvariantCulture, $"{key}.{i}")] = list.Children[i];
                }

                return new TextOrList([.. list.Children.Select(static c => ((YamlScalarNode)c).Value ?? "")], IsList: true);
            default:
                Report(node, key, "a string or a list of strings is expected here.");
                return null;
        }
    }

    private object? Scalar(Type type, YamlScalarNode node, string key, SettingAttribute setting)
    {
        var text = node.Value ?? "";
        if (type == typeof(string))
        {
            if (setting.IsPath)
            {
                return UserPath.TryExpand(text, out var path, out var problem) ? path : Problem(node, key, problem);
            }

            return setting.Choice(text) ?? Problem(node, key, SettingCheck.NotPossible(key, text, setting));
        }

        var plain = node.Style is ScalarStyle.Plain or ScalarStyle.Any;
        if (type == typeof(bool))
        {
            bool? truth = text is "true" or "True" or "TRUE" ? true : text is "false" or "False" or "FALSE" ? false : null;
            return truth is null ? Problem(node, key, $"true or false is expected, not '{text}'.") : plain ? truth : Problem(node, key, Quoted(type, text));
        }

        if (!double.TryParse(text.Replace("_", "", StringComparison.Ordinal), NumberStyles.Float, CultureInfo.InvariantCulture, out var number) || !double.IsFinite(number))
        {
            return Problem(node, key, $"{Wanted(type)} is expected, not '{text}'.");
        }

        if (!plain)
        {
            return Problem(node, key, Quoted(type, text));
        }

        if (number < setting.Min || number > setting.Max)
        {
            return Problem(node, key, SettingCheck.OutOfRange(text, setting));
        }

        if (type == typeof(double))
        {
            return number;
        }

        var largest = type == typeof(int) ? int.MaxValue : 1L << 53;
        return number == Math.Floor(number) && Math.Abs(number) <= largest
            ? Convert.ChangeType(number, type, CultureInfo.InvariantCulture)
            : Problem(node, key, $"{Wanted(type)} is expected, not '{text}'.");
    }

    private static string Quoted(Type type, string text) => $"{Wanted(type)} is expected, and quotes make a text of it; write {text} without them.";

    private static string Wanted(Type type) =>
        type == typeof(bool) ? "true or false" : type == typeof(double) ? "a number" : type == typeof(string) ? "a text" : "a whole number";

    private static bool IsNull(YamlNode node) =>
        node is YamlScalarNode { Style: ScalarStyle.Plain or ScalarStyle.Any, Value: null or "" or "null" or "Null" or "NULL" or "~" };

    private static bool IsOptional(Type type) => System.Nullable.GetUnderlyingType(type) is not null || type.IsClass;

    internal static bool Nullable(SettingInfo setting) =>
        new System.Reflection.NullabilityInfoContext().Create(setting.Property).WriteState == System.Reflection.NullabilityState.Nullable;

    private object? Problem(YamlNode node, string key, string message)
    {
        Report(node, key, message);
        return null;
    }

    private void Report(YamlNode node, string key, string message) => _problems.Add(new ConfigProblem(source.PlaceOf(node), key, message));
}
