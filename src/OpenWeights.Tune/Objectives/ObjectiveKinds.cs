using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Objectives;

/// <summary>The objectives by their names in the config. A new one is a new file and a line here.</summary>
public static class ObjectiveKinds
{
    private static readonly Dictionary<string, Func<ObjectiveSection, IObjective>> s_kinds = new()
    {
        ["sft"] = static settings => new SupervisedObjective(settings),
    };

    /// <summary>The names that a config may give.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. s_kinds.Keys];

    /// <summary>The objective that the settings name.</summary>
    /// <param name="settings">The objective's settings.</param>
    /// <exception cref="ConfigException">There is no objective of that name.</exception>
    public static IObjective Create(ObjectiveSection settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        return s_kinds.TryGetValue(settings.Type, out var create) ? create(settings)
            : throw new ConfigException([new ConfigProblem("", "objective.type", $"'{settings.Type}' is not an objective; possible are {string.Join(", ", Names)}.{Spelling.DidYouMean(settings.Type, Names)}")]);
    }
}
