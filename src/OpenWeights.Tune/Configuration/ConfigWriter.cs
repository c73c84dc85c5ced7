using System.Collections;
using System.Globalization;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Configuration;

/// <summary>Writes a config as YAML, including all defaults.</summary>
internal static class ConfigWriter
{
    /// <summary>A config as YAML.</summary>
    public static string Write(RunConfig config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return Value(config);
    }

    /// <summary>A section or a value as YAML.</summary>
    internal static string Value(object? value)
    {
        using var text = new StringWriter(CultureInfo.InvariantCulture) { NewLine = "\n" };
        new YamlStream(new YamlDocument(Node(value))).Save(text, assignAnchors: false);
        return text.ToString().Replace("\n...\n", "\n", StringComparison.Ordinal);
    }

    private static YamlNode Node(object? value) => value switch
    {
        null => Plain("null"),
        bool flag => Plain(flag ? "true" : "false"),
        double number => Plain(number.ToString("R", CultureInfo.InvariantCulture)),
        int or long or short or byte or uint or float or decimal => Plain(Convert.ToString(value, CultureInfo.InvariantCulture)!),
        string text => Text(text),
        TextOrList { IsList: false } single => Text(single.Values[0]),
        TextOrList list => Node(list.Values),
        IDictionary map => new YamlMappingNode(map.Keys.Cast<string>().Select(k => KeyValuePair.Create((YamlNode)Text(k), Node(map[k])))),
        IEnumerable list => new YamlSequenceNode(list.Cast<object>().Select(Node)),
        _ when !SettingInfo.IsSection(value.GetType()) => throw new ArgumentException($"{value.GetType().Name} is no kind of value that a setting has; give a text, a number, true or false, a list, or a dictionary with texts as keys."),
        _ => new YamlMappingNode(SettingInfo.OfSection(value).Select(s => KeyValuePair.Create((YamlNode)Plain(s.Key), Node(s.Get(value))))),
    };

    private static YamlScalarNode Plain(string text) => new(text) { Style = ScalarStyle.Plain };

    // Quoted wherever a reader could take the text for another type.
    private static YamlScalarNode Text(string text) =>
        new(text) { Style = text.Length > 0 && text.All(static c => char.IsAsciiLetter(c) || c is '_' or '-') && text is not ("null" or "true" or "false" or "yes" or "no" or "on" or "off") ? ScalarStyle.Plain : ScalarStyle.DoubleQuoted };
}
