using OpenWeights.Tune.Configuration.Foreign;
using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Configuration;

/// <summary>Messages for unknown keys.</summary>
internal static class UnknownSetting
{
    private const int FewSettings = 6;

    // All settings of a run by dotted name, except those of lists of sections (data sets).
    private static readonly Lazy<IReadOnlyList<string>> s_all = new(() => [.. Names(typeof(RunConfig), "")]);

    private static readonly System.Text.Json.JsonSerializerOptions s_plain = new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    internal static IReadOnlyList<string> All => s_all.Value;

    /// <summary>Suggests a fix: the counterpart of another program's name, the closest name for a typo, or the right section.</summary>
    /// <param name="prefix">Name of the section with a trailing dot; empty at the top level.</param>
    /// <param name="key">The key.</param>
    /// <param name="value">The value given for it.</param>
    /// <param name="settings">The section's settings.</param>
    /// <param name="adapterType">Type of the adapter whose section it is; null for other sections.</param>
    internal static string Message(string prefix, string key, YamlNode value, IReadOnlyList<SettingInfo> settings, string? adapterType = null)
    {
        // Other programs' names stand for settings of LoRA.
        var ofAnother = adapterType is null ? null : AdapterTypes.OfAnotherType(adapterType, key);
        if (ofAnother is not null && adapterType != AdapterTypes.Lora)
        {
            return ofAnother;
        }

        if (ForeignNames.Advice(prefix, key, value) is { } advice)
        {
            return advice;
        }

        if (ofAnother is not null)
        {
            return ofAnother;
        }

        if (All.Contains(key) && key.LastIndexOf('.') is > 0 and var dot)
        {
            return $"a dotted name is understood on the command line alone; write `{key[(dot + 1)..]}: {(value is YamlScalarNode plain ? Quoted(plain) : "...")}` in the section {key[..dot]}.";
        }

        if (Spelling.Nearest(key, settings.Select(static s => s.Key)) is { } nearest)
        {
            return $"unknown setting; did you mean {nearest}?";
        }

        if (prefix == "data." && SettingInfo.Of(typeof(DataSource)).Any(s => s.Key == key))
        {
            return $"this setting does not belong here; it is a setting of a data set, such as `train: [ {{ path: rows.jsonl, {key}: {(value is YamlScalarNode scalar ? Quoted(scalar) : "...")} }} ]`.";
        }

        if (All.FirstOrDefault(n => n == key || n.EndsWith("." + key, StringComparison.Ordinal)) is { } elsewhere)
        {
            return $"this setting does not belong here; it is {elsewhere}{(elsewhere == key ? ", at the top level of the file" : $", in the section {elsewhere[..elsewhere.LastIndexOf('.')]}")}.";
        }

        if (Spelling.Nearest(key, All.Select(static n => n[(n.LastIndexOf('.') + 1)..])) is { } far)
        {
            return $"unknown setting; did you mean {All.First(n => n == far || n.EndsWith("." + far, StringComparison.Ordinal))}?";
        }

        return settings.Count <= FewSettings
            ? $"unknown setting; valid settings here are {string.Join(", ", settings.Select(static s => s.Key))}."
            : "unknown setting; see docs/settings.md for all settings, or use the schema of `owt validate --schema` in an editor.";
    }

    // Empty or white-space texts are not visible without quotes.
    private static string Quoted(YamlScalarNode value) => value.Value is { Length: > 0 } text && text.All(static c => char.IsLetterOrDigit(c) || c is '_' or '-' or '.')
        ? text
        : System.Text.Json.JsonSerializer.Serialize(value.Value ?? "", s_plain);

    private static IEnumerable<string> Names(Type section, string prefix)
    {
        foreach (var setting in SettingInfo.Of(section))
        {
            yield return prefix + setting.Key;
            foreach (var inner in SettingInfo.IsSection(setting.Property.PropertyType) && setting.Property.PropertyType != typeof(TextOrList) ? Names(setting.Property.PropertyType, prefix + setting.Key + ".") : [])
            {
                yield return inner;
            }
        }
    }
}
