using System.Collections;
using System.Globalization;
using OpenWeights.Tune.Configuration.Foreign;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Configuration;

/// <summary>Validates settings built in code, with the same rules and messages as for a YAML file.</summary>
internal static class SettingCheck
{
    private const string Null = "null is not possible here; leave it out for its default.";

    /// <summary>All problems of a run's settings.</summary>
    /// <param name="config">The run.</param>
    internal static IReadOnlyList<ConfigProblem> Problems(RunConfig config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var problems = new List<ConfigProblem>();
        Section(config, "", problems, whole: true);
        if (problems.Any(static p => p.Message == Null))
        {
            // What a rule says of settings together needs them to be there.
            return problems;
        }

        var wrong = problems.Select(static p => p.Key).ToHashSet();
        problems.AddRange(ConfigRules.Of(config).Where(r => !wrong.Contains(r.Key)).Select(static r => new ConfigProblem("", r.Key, r.Message)));
        return problems;
    }

    /// <summary>Throws if a run's settings are invalid.</summary>
    /// <param name="config">The run.</param>
    /// <exception cref="ConfigException">The config is invalid; the exception lists all problems.</exception>
    internal static void Require(RunConfig config) => Throw([.. Problems(config)]);

    /// <summary>Throws if some sections of a run are invalid; what the others lack does not count.</summary>
    /// <param name="config">The run.</param>
    /// <param name="sections">Names of the sections.</param>
    /// <exception cref="ConfigException">A section is invalid; the exception lists all problems.</exception>
    internal static void Require(RunConfig config, params IReadOnlyList<string> sections)
    {
        // Rules are for whole runs.
        var whole = config with
        {
            OutputDir = config.OutputDir.Length > 0 ? config.OutputDir : "run",
            Adapter = config.Adapter ?? new AdapterSection(),
            Data = config.Data.Train.Count > 0 ? config.Data : new DataSection { Train = [new DataSource { Path = "rows" }] },
        };
        Throw([.. Problems(whole).Where(p => sections.Any(s => p.Key == s || p.Key.StartsWith(s + ".", StringComparison.Ordinal)))]);
    }

    /// <summary>Throws if the training settings are invalid.</summary>
    /// <param name="training">The section.</param>
    /// <exception cref="ConfigException">The section is invalid; the exception lists all problems.</exception>
    internal static void Require(TrainingSection training)
    {
        var problems = new List<ConfigProblem>();
        Section(training, "training.", problems, whole: true);
        problems.AddRange(ConfigRules.OfTraining(training).Select(static r => new ConfigProblem("", r.Key, r.Message)));
        Throw(problems);
    }

    /// <summary>Throws if the data settings are invalid; the data files may be given elsewhere.</summary>
    /// <param name="data">The section.</param>
    /// <exception cref="ConfigException">The section is invalid; the exception lists all problems.</exception>
    internal static void Require(DataSection data)
    {
        var problems = new List<ConfigProblem>();
        Section(data, "data.", problems, whole: false);
        Throw(problems);
    }

    internal static string NotPossible(string key, string text, SettingAttribute setting) =>
        ForeignNames.Value(key, text) is { } advice
            ? $"'{text}' is not a valid value; {advice}"
            : $"'{text}' is not a valid value; valid values are {string.Join(", ", setting.OneOf)}{(setting.OrOwnClass ? $", or {OwnClass.Written}" : "")}.{Spelling.DidYouMean(text, setting.OneOf)}";

    internal static string OutOfRange(string text, SettingAttribute setting) => string.Create(
        CultureInfo.InvariantCulture,
        $"{text} is out of range; it must be {Bounds(setting.Min, setting.Max)}.");

    /// <summary>The bounds of a number in words.</summary>
    /// <param name="least">The least; next to 0 where 0 alone is too little.</param>
    /// <param name="most">Upper bound; infinite for none.</param>
    internal static string Bounds(double least, double most)
    {
        var above = least is > 0 and < 1e-3;
        return double.IsPositiveInfinity(most)
            ? above ? "above 0" : FormattableString.Invariant($"at least {least}")
            : above ? FormattableString.Invariant($"above 0, and at most {most}") : FormattableString.Invariant($"from {least} to {most}");
    }

    private static void Throw(List<ConfigProblem> problems)
    {
        if (problems.Count > 0)
        {
            throw new ConfigException(problems);
        }
    }

    private static void Section(object section, string prefix, List<ConfigProblem> problems, bool whole)
    {
        if (section is AdapterSection { Own: { } own } adapter)
        {
            problems.AddRange(OfLora(adapter, own.TypeName).Select(p => new ConfigProblem("", prefix + p.Key, p.Message)));
        }

        foreach (var setting in SettingInfo.OfSection(section))
        {
            var (key, value) = (prefix + setting.Key, setting.Get(section));
            if (value is null && !ConfigBinder.Nullable(setting))
            {
                problems.Add(new ConfigProblem("", key, Null));
            }
            else if (value is null or "" or ICollection { Count: 0 })
            {
                if (setting.Setting.Required && whole)
                {
                    problems.Add(new ConfigProblem("", key, ConfigBinder.Missing(setting)));
                }

            }
            else
            {
                Value(value, key, setting.Setting, problems, whole);
            }
        }
    }

    // Properties that an adapter of another type does not have.
    private static IEnumerable<(string Key, string Message)> OfLora(AdapterSection adapter, string type)
    {
        var (defaults, own) = (new AdapterSection(), AdapterTypes.Settings(type).Select(static s => s.Key).ToHashSet());
        foreach (var setting in SettingInfo.Of(typeof(AdapterSection)).Where(static s => !s.Setting.AllTypes))
        {
            var isGiven = setting.Property.Name switch
            {
                nameof(AdapterSection.Rank) => adapter.GivenRank is not null,
                nameof(AdapterSection.LoraAlpha) => adapter.GivenAlpha is not null,
                _ => setting.Property.GetValue(adapter) is { } value && ConfigWriter.Value(value) != ConfigWriter.Value(setting.Property.GetValue(defaults)),
            };
            if (isGiven)
            {
                yield return (setting.Key, own.Contains(setting.Key)
                    ? $"the property {setting.Property.Name} is LoRA's; {type} has its own, which With(\"{setting.Key}\", ...) sets."
                    : AdapterTypes.OfAnotherType(type, setting.Key)!);
            }
        }
    }

    private static void Value(object value, string key, SettingAttribute setting, List<ConfigProblem> problems, bool whole)
    {
        var problem = value switch
        {
            string path when setting.IsPath => Path(path),
            string text => setting.OneOf.Length == 0 || setting.OneOf.Contains(text) || (setting.OrOwnClass && OwnClass.Is(text)) ? null : NotPossible(key, text, setting),
            double number when !double.IsFinite(number) => $"{number} is not a number.",
            int or long or double => Range(Convert.ToDouble(value, CultureInfo.InvariantCulture), setting),
            _ => null,
        };
        if (problem is not null)
        {
            problems.Add(new ConfigProblem("", key, problem));
        }

        switch (value)
        {
            case string or TextOrList:
                break;
            case IDictionary map:
                foreach (DictionaryEntry entry in map)
                {
                    if (entry.Value is null)
                    {
                        continue;
                    }

                    Value(entry.Value, $"{key}.{entry.Key}", setting, problems, whole);
                }

                break;
            case IEnumerable list:
                var i = 0;
                foreach (var item in list)
                {
                    var at = string.Create(CultureInfo.InvariantCulture, $"{key}.{i++}");
                    if (item is null)
                    {
                        problems.Add(new ConfigProblem("", at, Null));
                    }
                    else
                    {
                        Value(item, at, setting, problems, whole);
                    }
                }

                break;
            default:
                if (SettingInfo.IsSection(value.GetType()))
                {
                    Section(value, key + ".", problems, whole);
                }

                break;
        }
    }

    private static string? Range(double number, SettingAttribute setting) =>
        number < setting.Min || number > setting.Max ? OutOfRange(number.ToString("R", CultureInfo.InvariantCulture), setting) : null;

    // Paths given in code are used as they are; a leading ~ is more likely a mistake than a folder of that name.
    private static string? Path(string path) => !UserPath.TryExpand(path, out var expanded, out var problem) ? problem
        : path.StartsWith('~') && expanded != path ? $"'{path}' would be a folder named ~; write the home folder's path in full, such as Environment.GetFolderPath(Environment.SpecialFolder.UserProfile)."
        : null;
}
