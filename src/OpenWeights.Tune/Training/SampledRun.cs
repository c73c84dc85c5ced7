using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Objectives.Reinforcement;

namespace OpenWeights.Tune.Training;

/// <summary>The rows of a run that trains on sampled answers.</summary>
internal static class SampledRun
{
    /// <summary>How answers are shared out among steps; null for an objective without them.</summary>
    /// <exception cref="InvalidDataException">Recorded groups have different sizes, or do not fit into a step.</exception>
    internal static SamplingPlan? Plan(RunConfig config, RunData data, int ranks = 1) => KindOf(config) switch
    {
        RowKind.Prompts => SamplingPlan.Of(config, ranks: ranks),
        RowKind.Samples => SamplingPlan.Of(config, SampledRows.Groups(data.Train.Rows)[0].Length, ranks),
        _ => null,
    };

    /// <summary>Selects the prompts, or the recorded groups, of each batch.</summary>
    /// <exception cref="InvalidDataException">There are too few of them.</exception>
    internal static BatchSampler Rows(RunConfig config, RunData data, SamplingPlan plan)
    {
        var rows = data.Train.Rows;
        var isRecorded = KindOf(config) == RowKind.Samples;
        IReadOnlyList<int[]> groups = isRecorded ? SampledRows.Groups(rows) : [.. Enumerable.Range(0, rows.Count).Select(static i => new[] { i })];
        return groups.Count >= plan.GroupsTogether ? new BatchSampler(rows, groups, config.Data.Shuffle, config.Seed, plan.GroupsTogether, plan.StepsTogether)
            : throw new InvalidDataException($"there are {groups.Count} {(isRecorded ? "groups of samples" : "prompts")}, and {plan.GroupsTogether} are trained on together ({plan.RowsTogether} answers, {plan.Generations} for each prompt); lower training.micro_batch_size or gradient_accumulation_steps, or add data.");
    }

    /// <summary>Length of the longest row, with its sampled answer.</summary>
    /// <param name="config">The run.</param>
    /// <param name="longest">Length of the longest row of the data.</param>
    /// <param name="decoder">The model.</param>
    internal static int LongestRow(RunConfig config, int longest, DecoderConfig decoder) => KindOf(config) != RowKind.Prompts ? longest
        : Math.Max(longest, Math.Min(longest + config.Objective.MaxCompletionLength, ContextLimit.Of(decoder, config.Model.MaxPositions).Tokens));

    private static RowKind KindOf(RunConfig config) => ObjectiveKinds.Of(config.Objective).RowsOf(config.Objective);
}
