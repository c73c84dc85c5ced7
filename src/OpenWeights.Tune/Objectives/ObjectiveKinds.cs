using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Extensions;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives.Distillation;
using OpenWeights.Tune.Objectives.Embeddings;
using OpenWeights.Tune.Objectives.Labels;
using OpenWeights.Tune.Objectives.Preferences;
using OpenWeights.Tune.Objectives.Reinforcement;

namespace OpenWeights.Tune.Objectives;

/// <summary>An objective by its config name.</summary>
/// <param name="Name">The config name.</param>
/// <param name="Rows">The rows that it trains on; <see cref="RowsOf"/> has those of a config.</param>
/// <param name="NeedsReference">Whether it compares the policy with a reference; <see cref="ComparesWithReference"/> has that of a config.</param>
/// <param name="Create">Creates the objective.</param>
internal sealed record ObjectiveKind(string Name, RowKind Rows, bool NeedsReference, Func<ObjectiveContext, IObjective> Create)
{
    /// <summary>The head that the model has.</summary>
    public HeadKind Head { get; init; }

    /// <summary>The rows that it trains on with some settings: recorded samples, or prompts.</summary>
    /// <param name="settings">The settings.</param>
    public RowKind RowsOf(ObjectiveSection settings) => Rows == RowKind.Prompts && settings?.Samples is not null ? RowKind.Samples : Rows;

    /// <summary>Whether it compares the policy with a reference with some settings: an objective that samples does only with a beta.</summary>
    /// <param name="settings">The settings.</param>
    public bool ComparesWithReference(ObjectiveSection settings) => NeedsReference && settings?.ReferenceFree != true && (Rows != RowKind.Prompts || settings?.DivergenceWeight != 0);

    /// <summary>Number of consecutive rows that make an example: 2 for pairs.</summary>
    public int RowsPerExample => Rows == RowKind.Pairs ? 2 : 1;
}

/// <summary>What a model's head computes.</summary>
internal enum HeadKind
{
    /// <summary>Logits of the next token.</summary>
    Vocabulary,

    /// <summary>A reward.</summary>
    Reward,

    /// <summary>Scores of the labels of the data.</summary>
    Labels,

    /// <summary>Nothing: hidden states are what is used.</summary>
    None,
}

/// <summary>The objectives by config name. To add one, add its file and a line here.</summary>
internal static class ObjectiveKinds
{
    private static readonly ObjectiveKind[] s_kinds =
    [
        new("sft", RowKind.Plain, NeedsReference: false, static c => new SupervisedObjective(c.Settings)),
        new("dpo", RowKind.Pairs, NeedsReference: true, static c => new DpoObjective(DpoSettings.Of(c.Settings), c.Reference)),
        new("orpo", RowKind.Pairs, NeedsReference: false, static c => new OrpoObjective(c.Settings.Beta ?? 0.1)),
        new("cpo", RowKind.Pairs, NeedsReference: false, static c => new CpoObjective(CpoSettings.Of(c.Settings))),
        new("kto", RowKind.Labelled, NeedsReference: true, static c => new KtoObjective(KtoSettings.Of(c.Settings), c.Reference!)),
        new("bco", RowKind.Labelled, NeedsReference: true, static c => new BcoObjective(c.Settings.Beta ?? 0.1, c.Reference!)),
        new("grpo", RowKind.Prompts, NeedsReference: true, static c => new GrpoObjective(c)),
        new("rloo", RowKind.Prompts, NeedsReference: true, static c => new RlooObjective(c)),
        new("distill", RowKind.Plain, NeedsReference: true, static c => new DistillObjective(DistillationSettings.Of(c.Settings), c.Reference!, c.EndTokens, c.Settings.Lmbda > 0 ? new StudentSamples(c) : null, c.TeacherAnswers)),
        new("reward", RowKind.Pairs, NeedsReference: false, static c => new RewardObjective(c.Settings.CenterRewardsCoefficient)) { Head = HeadKind.Reward },
        new("classification", RowKind.Classified, NeedsReference: false, static c => new ClassificationObjective(c.Settings.LabelSmoothing)) { Head = HeadKind.Labels },
        new("embedding", RowKind.Related, NeedsReference: false, static c => new EmbeddingObjective(c.Settings.Temperature ?? 0.05, c.Settings.Pooling == "mean" ? EmbeddingPooling.Mean : EmbeddingPooling.Last)) { Head = HeadKind.None },
    ];

    /// <summary>The valid config names.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. s_kinds.Select(static k => k.Name)];

    /// <summary>The objective of a run.</summary>
    /// <param name="section">Its settings.</param>
    /// <exception cref="ConfigException">The name is unknown.</exception>
    /// <exception cref="InvalidDataException">The assembly has no such class, or it cannot be created.</exception>
    /// <exception cref="FileNotFoundException">There is no such assembly.</exception>
    public static ObjectiveKind Of(ObjectiveSection section)
    {
        ArgumentNullException.ThrowIfNull(section);
        if (section.Custom is null && !OwnClass.Is(section.Type))
        {
            return Find(section.Type);
        }

        // A class that is named is created here to be asked what it trains on, and again for each run.
        TrainingObjective Create() => section.Custom ?? OwnClass.Create<TrainingObjective>(section.Type, section);
        var first = Create();
        var pairs = first.TrainsOnPairs;
        if (section.Custom is null)
        {
            (first as IDisposable)?.Dispose();
        }

        return new ObjectiveKind(section.Type, pairs ? RowKind.Pairs : RowKind.Plain, NeedsReference: false, _ => new OwnObjective(Create()));
    }

    /// <summary>The objective of a name.</summary>
    /// <param name="name">The config name.</param>
    /// <exception cref="ConfigException">The name is unknown.</exception>
    public static ObjectiveKind Find(string name) => Array.Find(s_kinds, k => k.Name == name)
        ?? throw new ConfigException([new ConfigProblem("", "objective.type", $"'{name}' is not an objective; valid are {string.Join(", ", Names)}.{Spelling.DidYouMean(name, Names)}")]);
}
