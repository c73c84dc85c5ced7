using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Objectives.Distillation;
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
    /// <param name="data">Its rows.</param>
    /// <param name="decoder">The model.</param>
    internal static int LongestRow(RunConfig config, RunData data, DecoderConfig decoder) => Distills(config)
        ? data.Train.Rows.Max(row => Math.Max(row.Ids.Length, row.EachDocument().Sum(d => AnsweredRows.AnswerStart(d) is > 0 and var start ? Answered(config, start, decoder) : d.Ids.Length)))
        : KindOf(config) == RowKind.Prompts ? Answered(config, data.Train.LongestRow, decoder) : data.Train.LongestRow;

    /// <summary>Length of the longest row, with its sampled answer, where rows are not known yet.</summary>
    /// <param name="config">The run.</param>
    /// <param name="decoder">The model.</param>
    internal static int LongestRow(RunConfig config, DecoderConfig decoder) =>
        Distills(config) || KindOf(config) == RowKind.Prompts ? Answered(config, config.Data.MaxLength, decoder) : config.Data.MaxLength;

    /// <summary>Length of the longest prompt whose answer is sampled while training; 0 where none is.</summary>
    /// <param name="config">The run.</param>
    /// <param name="data">Its rows.</param>
    internal static int LongestPrompt(RunConfig config, RunData data) => config.Objective is { Type: "distill", Lmbda: > 0 } ? data.Train.Documents.Max(AnsweredRows.AnswerStart)
        : KindOf(config) == RowKind.Prompts ? data.Train.LongestRow : 0;

    private static bool Distills(RunConfig config) => config.Objective is { Type: "distill", Lmbda: > 0 } or { Type: "distill", SeqKd: true };

    // The model may have no room for an answer of the full length.
    private static int Answered(RunConfig config, int prompt, DecoderConfig decoder) =>
        Math.Max(prompt, Math.Min(prompt + config.Objective.MaxCompletionLength, ContextLimit.Of(decoder, config.Model.MaxPositions).Tokens));

    private static RowKind KindOf(RunConfig config) => ObjectiveKinds.Of(config.Objective).RowsOf(config.Objective);
}
