using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Objectives.Distillation;
using OpenWeights.Tune.Objectives.Preferences;

namespace OpenWeights.Tune.Objectives;

/// <summary>An objective by its config name.</summary>
/// <param name="Name">The config name.</param>
/// <param name="Rows">The rows that it trains on.</param>
/// <param name="NeedsReference">Whether it compares the policy with a reference; <see cref="ComparesWithReference"/> has that of a config.</param>
/// <param name="Create">Creates the objective; the reference is null if it needs none.</param>
public sealed record ObjectiveKind(string Name, RowKind Rows, bool NeedsReference, Func<ObjectiveSection, IReferencePolicy?, IObjective> Create)
{
    /// <summary>Whether it compares the policy with a reference with some settings.</summary>
    /// <param name="settings">The settings.</param>
    public bool ComparesWithReference(ObjectiveSection settings) => NeedsReference && settings?.ReferenceFree != true;

    /// <summary>Number of consecutive rows that make an example: 2 for pairs.</summary>
    public int RowsPerExample => Rows == RowKind.Pairs ? 2 : 1;
}

/// <summary>The objectives by config name. To add one, add its file and a line here.</summary>
public static class ObjectiveKinds
{
    private static readonly ObjectiveKind[] s_kinds =
    [
        new("sft", RowKind.Plain, NeedsReference: false, static (settings, _) => new SupervisedObjective(settings)),
        new("dpo", RowKind.Pairs, NeedsReference: true, static (settings, reference) => new DpoObjective(DpoSettings.Of(settings), reference)),
        new("orpo", RowKind.Pairs, NeedsReference: false, static (settings, _) => new OrpoObjective(settings.Beta ?? 0.1)),
        new("cpo", RowKind.Pairs, NeedsReference: false, static (settings, _) => new CpoObjective(CpoSettings.Of(settings))),
        new("kto", RowKind.Labelled, NeedsReference: true, static (settings, reference) => new KtoObjective(KtoSettings.Of(settings), reference!)),
        new("bco", RowKind.Labelled, NeedsReference: true, static (settings, reference) => new BcoObjective(settings.Beta ?? 0.1, reference!)),
        new("distill", RowKind.Plain, NeedsReference: true, static (settings, teacher) => new DistillObjective(DistillationSettings.Of(settings), teacher!)),
    ];

    /// <summary>The valid config names.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. s_kinds.Select(static k => k.Name)];

    /// <summary>The objective of a name.</summary>
    /// <param name="name">The config name.</param>
    /// <exception cref="ConfigException">The name is unknown.</exception>
    public static ObjectiveKind Find(string name) => Array.Find(s_kinds, k => k.Name == name)
        ?? throw new ConfigException([new ConfigProblem("", "objective.type", $"'{name}' is not an objective; valid are {string.Join(", ", Names)}.{Spelling.DidYouMean(name, Names)}")]);
}
