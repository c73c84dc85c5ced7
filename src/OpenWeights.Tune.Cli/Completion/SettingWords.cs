using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Cli.Completion;

/// <summary>Settings of the YAML file as they are given behind a command, training.max_steps=10: their names, and the values of those that have few.</summary>
internal static class SettingWords
{
    /// <summary>How arguments that are settings are called in the help.</summary>
    internal const string HelpName = "key=value";

    private static readonly Lazy<IReadOnlyList<(string Name, SettingInfo Info)>> s_all = new(static () => [.. All(typeof(RunConfig), "").Concat(OfAdapters()).DistinctBy(static s => s.Name)]);

    /// <summary>The words that a setting may become as it is typed.</summary>
    /// <param name="word">What is typed of it.</param>
    internal static IEnumerable<(string Word, string What)> Of(string word)
    {
        if (word.IndexOf('=', StringComparison.Ordinal) is var equals && equals < 0)
        {
            return s_all.Value.Select(static s => ($"{s.Name}=", s.Info.Setting.Description));
        }

        var name = word[..equals];
        return s_all.Value.FirstOrDefault(s => s.Name == name).Info is { } info ? Values(name, info).Select(v => ($"{name}={v}", "")) : [];
    }

    private static IEnumerable<string> Values(string name, SettingInfo info)
    {
        var type = Nullable.GetUnderlyingType(info.Property.PropertyType) ?? info.Property.PropertyType;
        return info.Setting.OneOf.Length > 0 ? info.Setting.OneOf
            : type == typeof(bool) ? ["true", "false"]
            : name is "model.path" or "objective.teacher" or "objective.reference" ? Completions.Models().Select(static m => m.Word)
            : [];
    }

    // Lists of sections have numbers in their names, and are given in the file.
    private static IEnumerable<(string Name, SettingInfo Info)> All(Type section, string prefix) => SettingInfo.Of(section).SelectMany(s =>
        SettingInfo.IsSection(s.Property.PropertyType) && s.Property.PropertyType != typeof(TextOrList) ? All(s.Property.PropertyType, $"{prefix}{s.Key}.") : [($"{prefix}{s.Key}", s)]);

    private static IEnumerable<(string Name, SettingInfo Info)> OfAdapters() => AdapterTypes.Others.Values.SelectMany(static t => SettingInfo.Of(t)).Select(static s => ($"adapter.{s.Key}", s));
}
