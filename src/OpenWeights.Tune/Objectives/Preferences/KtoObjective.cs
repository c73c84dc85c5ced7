using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Preferences;

/// <summary>Settings of KTO, with TRL's names.</summary>
internal sealed record KtoSettings
{
    /// <summary>loss_type: kto, or apo_zero_unpaired, which needs no estimate of the divergence.</summary>
    internal string Loss { get; init; } = "kto";

    /// <summary>beta.</summary>
    internal double Beta { get; init; } = 0.1;

    /// <summary>desirable_weight.</summary>
    internal double DesirableWeight { get; init; } = 1;

    /// <summary>undesirable_weight.</summary>
    internal double UndesirableWeight { get; init; } = 1;

    /// <summary>The settings of a config's section.</summary>
    internal static KtoSettings Of(ObjectiveSection section) => new()
    {
        Loss = section.LossType?.Values[0] ?? "kto",
        Beta = section.Beta ?? 0.1,
        DesirableWeight = section.DesirableWeight,
        UndesirableWeight = section.UndesirableWeight,
    };
}

/// <summary>
/// Kahneman-Tversky optimization (Ethayarajh et al., 2024), as TRL's KTOTrainer. The divergence from the reference is estimated from prompts with
/// the answers of other rows: those of a step, rotated by one, so that it does not depend on the micro-batches.
/// </summary>
internal sealed class KtoObjective(KtoSettings settings, IReferencePolicy reference) : LabelledObjective(settings.Beta, reference)
{
    private readonly IReferencePolicy _reference = reference;
    private double _divergence;

    /// <inheritdoc/>
    public override long Begin(CausalLanguageModel model, IReadOnlyList<IReadOnlyList<TokenRow>> batches)
    {
        ArgumentNullException.ThrowIfNull(model);
        var rows = base.Begin(model, batches);
        _divergence = settings.Loss == "kto" ? Math.Max(0, Divergence(model, batches)) : 0;
        return rows;
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, double> End() => new Dictionary<string, double>(base.End()) { ["kl"] = _divergence };

    /// <summary>Rows whose prompts have the answer of the row before, the first that of the last.</summary>
    internal static IReadOnlyList<TokenRow> Mismatched(IReadOnlyList<TokenRow> rows) =>
        [.. rows.Select((row, i) => With(row, rows[(i + rows.Count - 1) % rows.Count]))];

    private protected override Tensor Losses(IReadOnlyList<TokenRow> rows, Tensor rewards, Tensor desired)
    {
        var advantage = rewards.sub(settings.Beta * _divergence);
        var signed = where(desired, advantage, advantage.neg());
        var weights = where(desired, rewards.zeros_like().add(settings.DesirableWeight), rewards.zeros_like().add(settings.UndesirableWeight));
        return signed.sigmoid().neg().add(1).mul(weights);
    }

    // Mean over rows of the log-ratio of mismatched answers.
    private double Divergence(CausalLanguageModel model, IReadOnlyList<IReadOnlyList<TokenRow>> batches)
    {
        var mismatched = Mismatched([.. batches.SelectMany(static b => b)]);
        var (sum, start) = (0.0, 0);
        var parts = batches.Select(b => (IReadOnlyList<TokenRow>)[.. mismatched.Skip((start += b.Count) - b.Count).Take(b.Count)]).ToList();
        foreach (var (rows, isOwn) in Ranks.Passes(parts, model))
        {
            using var scope = NewDisposeScope();
            var batch = AnswerBatch.Of(rows, model);
            var policy = TokenLogProbs.Of(model, batch.Tokens).LogProbs;
            var ratios = policy.to(float64).sub(batch.Reference(_reference, policy)).sum();
            sum += isOwn ? ratios.ToDouble() : 0;
        }

        return Ranks.Add([sum], Device)[0] / mismatched.Count;
    }

    private static TokenRow With(TokenRow prompt, TokenRow answer)
    {
        var (asked, answered) = (AnswerStart(prompt), AnswerStart(answer));
        return new TokenRow([.. prompt.Ids[..asked], .. answer.Ids[answered..]], [.. Enumerable.Repeat(TokenRow.Ignored, asked), .. answer.Labels[answered..]], prompt.Source);
    }

    private static int AnswerStart(TokenRow row) => Array.FindIndex(row.Labels, static l => l != TokenRow.Ignored) is >= 0 and var start ? start : row.Ids.Length;
}
