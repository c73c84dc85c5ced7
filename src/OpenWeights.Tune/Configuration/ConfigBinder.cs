using System.Collections;
using System.Globalization;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Configuration;

/// <summary>Fills sections from YAML nodes. It goes on after a problem, so that all are found at once.</summary>
internal sealed class ConfigBinder(YamlSource source)
{
    private readonly List<ConfigProblem> _problems = [];

    internal IReadOnlyList<ConfigProblem> Problems => _problems;

    internal T Bind<T>()
        where T : new() => (T)Section(typeof(T), source.Root, "");

    private object Section(Type type, YamlMappingNode node, string prefix)
    {
        var section = Activator.CreateInstance(type)!;
        var settings = SettingInfo.Of(type);
        foreach (var (name, value) in node.Children)
        {
            var key = (name as YamlScalarNode)?.Value ?? "";
            var full = prefix + key;
            if (settings.FirstOrDefault(s => s.Key == key) is not { } setting)
            {
                var nearest = Spelling.Nearest(key, settings.Select(static s => s.Key));
                Report(name, full, nearest is null
                    ? $"there is no such setting; possible here are {string.Join(", ", settings.Select(static s => s.Key))}."
                    : $"there is no such setting; did you mean {nearest}?");
                continue;
            }

            if (Value(setting.Property.PropertyType, value, full, setting.Setting) is { } bound)
            {
                setting.Property.SetValue(section, bound);
            }
            else if (IsNull(value) && Nullable(setting))
            {
                setting.Property.SetValue(section, null);
            }
        }

        foreach (var missing in settings.Where(s => s.Setting.Required && !node.Children.ContainsKey(new YamlScalarNode(s.Key))))
        {
            Report(node, prefix + missing.Key, $"this setting is missing. {missing.Setting.Description}");
        }

        return section;
    }

    // Null means that the node is YAML's null, or that a problem was reported.
    private object? Value(Type type, YamlNode node, string key, SettingAttribute setting)
    {
        var wanted = System.Nullable.GetUnderlyingType(type) ?? type;
        if (IsNull(node))
        {
            if (!IsOptional(type) && !typeof(IEnumerable).IsAssignableFrom(wanted))
            {
                Report(node, key, "a value is missing here.");
            }

            return null;
        }

        if (wanted == typeof(TextOrList))
        {
            return Texts(node, key);
        }

        if (SettingInfo.IsSection(wanted))
        {
            return node is YamlMappingNode mapping ? Section(wanted, mapping, key + ".") : Problem(node, key, "settings of its own are wanted here, such as `{ key: value }`.");
        }

        if (wanted != typeof(string) && wanted.IsGenericType)
        {
            return Collection(wanted, node, key, setting);
        }

        return node is YamlScalarNode scalar ? Scalar(wanted, scalar, key, setting) : Problem(node, key, $"{Wanted(wanted)} is wanted here, not a list or settings.");
    }

    private object? Collection(Type type, YamlNode node, string key, SettingAttribute setting)
    {
        var arguments = type.GetGenericArguments();
        if (arguments.Length == 2)
        {
            return node is YamlMappingNode mapping ? Dictionary(arguments[1], mapping, key, setting) : Problem(node, key, "names with values are wanted here, such as `{ q_proj: 8 }`.");
        }

        if (node is not YamlSequenceNode sequence)
        {
            return Problem(node, key, "a list is wanted here, such as `[ a, b ]`.");
        }

        var list = (IList)Activator.CreateInstance(typeof(List<>).MakeGenericType(arguments[0]))!;
        for (var i = 0; i < sequence.Children.Count; i++)
        {
            if (Value(arguments[0], sequence.Children[i], string.Create(CultureInfo.InvariantCulture, $"{key}.{i}"), setting) is { } item)
            {
                _ = list.Add(item);
            }
        }

        return list;
    }

    private object Dictionary(Type value, YamlMappingNode mapping, string key, SettingAttribute setting)
    {
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

    private TextOrList? Texts(YamlNode node, string key)
    {
        switch (node)
        {
            case YamlScalarNode { Value: { } text }:
                return new TextOrList([text], IsList: false);
            case YamlSequenceNode list when list.Children.All(static c => c is YamlScalarNode):
                return new TextOrList([.. list.Children.Select(static c => ((YamlScalarNode)c).Value ?? "")], IsList: true);
            default:
                Report(node, key, "a text or a list of texts is wanted here.");
                return null;
        }
    }

    private object? Scalar(Type type, YamlScalarNode node, string key, SettingAttribute setting)
    {
        var text = node.Value ?? "";
        if (type == typeof(string))
        {
            if (setting.OneOf.Length == 0 || setting.OneOf.Contains(text))
            {
                return text;
            }

            var nearest = Spelling.Nearest(text, setting.OneOf);
            return Problem(node, key, $"'{text}' is not possible; possible are {string.Join(", ", setting.OneOf)}{(nearest is null ? "" : $". Did you mean {nearest}?")}");
        }

        var plain = node.Style is ScalarStyle.Plain or ScalarStyle.Any;
        if (type == typeof(bool))
        {
            return plain && text is "true" or "True" or "TRUE" ? true : plain && text is "false" or "False" or "FALSE" ? false : Problem(node, key, $"true or false is wanted, not '{text}'.");
        }

        if (!plain || !double.TryParse(text.Replace("_", "", StringComparison.Ordinal), NumberStyles.Float, CultureInfo.InvariantCulture, out var number) || !double.IsFinite(number))
        {
            return Problem(node, key, $"{Wanted(type)} is wanted, not '{text}'.");
        }

        if (number < setting.Min || number > setting.Max)
        {
            return Problem(node, key, string.Create(CultureInfo.InvariantCulture, $"{text} is out of range; it must be {Range(setting)}."));
        }

        if (type == typeof(double))
        {
            return number;
        }

        var largest = type == typeof(int) ? int.MaxValue : 1L << 53;
        return number == Math.Floor(number) && Math.Abs(number) <= largest
            ? Convert.ChangeType(number, type, CultureInfo.InvariantCulture)
            : Problem(node, key, $"{Wanted(type)} is wanted, not '{text}'.");
    }

    private static string Range(SettingAttribute setting) =>
        double.IsPositiveInfinity(setting.Max) ? FormattableString.Invariant($"at least {setting.Min}")
        : FormattableString.Invariant($"from {setting.Min} to {setting.Max}");

    private static string Wanted(Type type) =>
        type == typeof(bool) ? "true or false" : type == typeof(double) ? "a number" : type == typeof(string) ? "a text" : "a whole number";

    private static bool IsNull(YamlNode node) =>
        node is YamlScalarNode { Style: ScalarStyle.Plain or ScalarStyle.Any, Value: null or "" or "null" or "Null" or "NULL" or "~" };

    private static bool IsOptional(Type type) => System.Nullable.GetUnderlyingType(type) is not null || type.IsClass;

    private static bool Nullable(SettingInfo setting) =>
        new System.Reflection.NullabilityInfoContext().Create(setting.Property).WriteState == System.Reflection.NullabilityState.Nullable;

    private object? Problem(YamlNode node, string key, string message)
    {
        Report(node, key, message);
        return null;
    }

    private void Report(YamlNode node, string key, string message) => _problems.Add(new ConfigProblem(source.PlaceOf(node), key, message));
}
