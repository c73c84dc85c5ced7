using System.Globalization;
using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Configuration.Foreign;

/// <summary>Names and values of other programs' settings, and their counterparts here.</summary>
internal static class ForeignNames
{
    private static readonly Lazy<(Dictionary<string, ForeignName> Names, Dictionary<(string, string), string> Values)> s_tables = new(Read);

    /// <summary>All known names.</summary>
    internal static IReadOnlyCollection<ForeignName> All => s_tables.Value.Names.Values;

    /// <summary>Looks up another program's name; null if unknown.</summary>
    internal static ForeignName? Find(string key) => s_tables.Value.Names.GetValueOrDefault(Normal(key));

    /// <summary>What to write for another program's value of one of our settings; null if unknown.</summary>
    internal static string? Value(string setting, string text)
    {
        // List indexes of data sets are ignored.
        var name = string.Join('.', setting.Split('.').Where(static p => !int.TryParse(p, out _))).Replace("data.eval.", "data.train.", StringComparison.Ordinal);
        return s_tables.Value.Values.GetValueOrDefault((name, Normal(text))) ?? (ForValue(name, text) is { } ours ? $"write {ours}." : null);
    }

    /// <summary>What to write instead of another program's name; null if the name is unknown.</summary>
    /// <param name="prefix">The section that contains it, with a trailing dot; empty at the top level.</param>
    /// <param name="key">The name.</param>
    /// <param name="value">The value given for it.</param>
    internal static string? Advice(string prefix, string key, YamlNode value)
    {
        if (Find(key) is not { } name)
        {
            return null;
        }

        if (name.Ours is not { } ours)
        {
            return $"this setting does not exist here: {name.None}";
        }

        var changed = ForeignValue.Change(name, value, rank: null);
        ours = changed.Ours ?? ours;
        if (changed.Reason is { } reason)
        {
            return $"here it is {ours}: {reason}";
        }

        if (ours.LastIndexOf('.') is var dot && dot > 0 && char.IsAsciiDigit(ours[dot + 1]))
        {
            return $"here it is {(ours[^1] == '0' ? "the first" : "the second")} number of {ours[..dot]}.";
        }

        if (changed.Text is not { } text)
        {
            return value is YamlScalarNode { Value.Length: > 0 } ? $"here it is {ours}, and need not be written for {((YamlScalarNode)value).Value}." : $"here it is {ours}.";
        }

        var section = dot < 0 ? "" : ours[..(dot + 1)];
        var written = $"`{ours[(dot + 1)..]}: {text}`";
        return section == prefix ? $"here it is {written}."
            : section.Length == 0 ? $"here it is {written}, at the top level of the file."
            : $"here it is {ours}; write {written} in the section {section.TrimEnd('.')}.";
    }

    // The value table of another name also applies to that value under our name.
    private static string? ForValue(string setting, string text) =>
        All.Where(n => n.Ours == setting && n.Values.Count > 2).Select(n => n.Values.GetValueOrDefault(text.ToLowerInvariant())).FirstOrDefault(static v => v is not null);

    private static string Normal(string name) => name.Replace('-', '_').ToLower(CultureInfo.InvariantCulture);

    private static (Dictionary<string, ForeignName> Names, Dictionary<(string, string), string> Values) Read()
    {
        var root = ForeignTable.Read("names.yaml");
        var names = new Dictionary<string, ForeignName>();
        foreach (var entry in ((YamlSequenceNode)root.Get("settings")!).Children)
        {
            foreach (var name in entry.Get("names").Texts())
            {
                names.Add(Normal(name), new ForeignName(name, entry.Get("ours").Text(), entry.Get("as").Text(), entry.Get("values").Map(), entry.Get("none").Text()));
            }
        }

        var values = ((YamlSequenceNode)root.Get("values")!).Children
            .SelectMany(static v => v.Get("value") is YamlSequenceNode several ? several.Texts().Select(text => (Value: text, Entry: v)) : [(v.Get("value").Text()!, v)])
            .ToDictionary(static v => (v.Entry.Get("setting").Text()!, Normal(v.Value)), static v => v.Entry.Get("write").Text()!);
        return (names, values);
    }
}

/// <summary>A setting's name in other programs.</summary>
/// <param name="Name">The name.</param>
/// <param name="Ours">Dotted name of the setting here; null if there is none.</param>
/// <param name="Change">How the value is converted; null for no conversion.</param>
/// <param name="Values">Individual values and their counterparts, null to omit the setting; empty if values are the same.</param>
/// <param name="None">Why there is no such setting here, or what to do about a value that is not listed.</param>
internal sealed record ForeignName(string Name, string? Ours, string? Change, IReadOnlyDictionary<string, string?> Values, string? None);
