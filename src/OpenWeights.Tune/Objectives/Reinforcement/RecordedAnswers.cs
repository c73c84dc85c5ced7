using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Objectives.Reinforcement;

/// <summary>Answers that were recorded before the run.</summary>
internal sealed class RecordedAnswers(ObjectiveContext context) : IAnswerSource
{
    /// <inheritdoc/>
    public IReadOnlyList<TokenRow> Answers(CausalLanguageModel model, IReadOnlyList<TokenRow> rows, long batch) =>
        [.. rows.Select(r => SampledRows.Recorded(r, context.EndTokens, context.Settings.MaskTruncatedCompletions))];

    /// <inheritdoc/>
    public bool Records => false;

    /// <inheritdoc/>
    public int GroupSize(bool isTraining) => context.Sampling!.Generations;
}
