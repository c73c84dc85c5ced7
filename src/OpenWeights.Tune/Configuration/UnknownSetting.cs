using OpenWeights.Tune.Configuration.Foreign;
using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Configuration;

/// <summary>What is said of a key that no setting of its section has.</summary>
internal static class UnknownSetting
{
    private const int FewSettings = 6;

    // Every setting of a run by its dotted name; lists of sections (data sets) are not among them.
    private static readonly Lazy<IReadOnlyList<string>> s_all = new(() => [.. Names(typeof(RunConfig), "")]);

    private static readonly System.Text.Json.JsonSerializerOptions s_plain = new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    internal static IReadOnlyList<string> All => s_all.Value;

    /// <summary>What to do instead: another program's name is answered with ours, a slip with the nearest, a wrong section with the right one.</summary>
    /// <param name="prefix">The section's name with a dot, or nothing.</param>
    /// <param name="key">The key.</param>
    /// <param name="value">What is given for it.</param>
    /// <param name="settings">The section's settings.</param>
    internal static string Message(string prefix, string key, YamlNode value, IReadOnlyList<SettingInfo> settings)
    {
        if (ForeignNames.Advice(prefix, key, value) is { } advice)
        {
            return advice;
        }

        if (Spelling.Nearest(key, settings.Select(static s => s.Key)) is { } nearest)
        {
            return $"there is no such setting; did you mean {nearest}?";
        }

        if (prefix == "data." && SettingInfo.Of(typeof(DataSource)).Any(s => s.Key == key))
        {
            return $"there is no such setting here; it is a data set's, such as `train: [ {{ path: rows.jsonl, {key}: {(value is YamlScalarNode scalar ? Quoted(scalar) : "...")} }} ]`.";
        }

        if (All.FirstOrDefault(n => n == key || n.EndsWith("." + key, StringComparison.Ordinal)) is { } elsewhere)
        {
            return $"there is no such setting here; it is {elsewhere}{(elsewhere == key ? ", at the file's left edge" : $", in the section {elsewhere[..elsewhere.LastIndexOf('.')]}")}.";
        }

        if (Spelling.Nearest(key, All.Select(static n => n[(n.LastIndexOf('.') + 1)..])) is { } far)
        {
            return $"there is no such setting; did you mean {All.First(n => n == far || n.EndsWith("." + far, StringComparison.Ordinal))}?";
        }

        return settings.Count <= FewSettings
            ? $"there is no such setting; possible here are {string.Join(", ", settings.Select(static s => s.Key))}."
            : "there is no such setting; docs/configuration.md tells which there are, and `owt validate --schema` for editors.";
    }

    // Texts that are white space or nothing cannot be seen without quotes.
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
