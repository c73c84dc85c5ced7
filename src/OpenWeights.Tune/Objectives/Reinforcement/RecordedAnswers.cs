using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Objectives.Reinforcement;

/// <summary>Answers that were recorded before the run.</summary>
internal sealed class RecordedAnswers(ObjectiveContext context) : IAnswerSource
{
    private int _evaluatedGroup;

    /// <inheritdoc/>
    public bool Records => false;

    /// <inheritdoc/>
    public IReadOnlyList<TokenRow> Answers(CausalLanguageModel model, IReadOnlyList<TokenRow> rows, long batch)
    {
        // Training rows come in groups; those of an evaluation as in the file.
        IReadOnlyList<int[]> groups = batch >= 0 ? [[.. Enumerable.Range(0, rows.Count)]] : SampledRows.Groups(rows);
        _evaluatedGroup = groups[0].Length;
        return [.. groups.SelectMany(static g => g).Select(i => SampledRows.Recorded(rows[i], context.EndTokens, context.Settings.MaskTruncatedCompletions))];
    }

    /// <inheritdoc/>
    public int GroupSize(bool isTraining) => isTraining ? context.Sampling!.Generations : _evaluatedGroup;
}
