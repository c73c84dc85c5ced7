using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Objectives.Distillation;
using OpenWeights.Tune.Rewards;

namespace OpenWeights.Tune.Objectives;

/// <summary>What an objective is made from.</summary>
/// <param name="Config">The run; its objective section has the objective's settings.</param>
internal sealed record ObjectiveContext(RunConfig Config)
{
    /// <summary>The reference; null if the objective needs none.</summary>
    public IReferencePolicy? Reference { get; init; }

    /// <summary>Tokenizes rows, and holds the tokenizer; null where rows are tokens alone.</summary>
    public RowTokenizer? Tokenizer { get; init; }

    /// <summary>Tokens that end an answer.</summary>
    public IReadOnlyList<int> EndTokens { get; init; } = [];

    /// <summary>What the teacher answered to the rows before training; null where it was not asked. The objective takes ownership.</summary>
    public TeacherAnswers? TeacherAnswers { get; init; }

    /// <summary>Loads a reward model; null where there is none.</summary>
    public Func<RewardSection, IRewardModel>? RewardModel { get; init; }

    /// <summary>How many rows a step has, for objectives that sample answers.</summary>
    public SamplingPlan? Sampling { get; init; }

    /// <summary>The ranks that compute the run.</summary>
    internal RankGroup Ranks { get; init; } = RankGroup.Alone;

    /// <summary>Settings of the objective.</summary>
    public ObjectiveSection Settings => Config.Objective;
}
