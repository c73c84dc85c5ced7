using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Preferences;

/// <summary>
/// Odds ratio preference optimization (Hong et al., 2024), without a reference: the likelihood of prompt and chosen answer, and the odds of the
/// answers by their mean log-probabilities, as TRL's ORPOTrainer.
/// </summary>
/// <param name="beta">Weight of the odds ratio (lambda of the paper).</param>
internal sealed class OrpoObjective(double beta) : PairObjective
{
    /// <inheritdoc/>
    public override Tensor? LossSum(CausalLanguageModel model, IReadOnlyList<TokenRow> rows)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(rows);
        using var scope = NewDisposeScope();

        // The prompts of chosen answers are trained too.
        var routers = is_grad_enabled() ? model.NewRouterRecord() : null;
        var batch = AnswerBatch.Of([.. rows.Select(static r => r.Role == RowRole.Chosen ? r with { Labels = r.Ids } : r)], model, shares: routers is null);
        var scores = TokenLogProbs.Of(model, batch.Tokens, observe: true, routers: routers);
        var answers = AnswerTokens(rows, model.Device);
        var lengths = tensor(rows.Select(static r => (double)r.CountTargets()).ToArray(), device: model.Device);
        var means = batch.Sum(scores.LogProbs.mul(answers)).div(lengths);
        var (chosen, rejected) = (means.index_select(0, batch.With(RowRole.Chosen)), means.index_select(0, batch.With(RowRole.Rejected)));

        // log(p / (1 - p)), with 1 - exp(x) = -expm1(x)
        var odds = chosen.sub(chosen.expm1().neg().log()).sub(rejected.sub(rejected.expm1().neg().log()));
        var ratio = PairLosses.LogSigmoid(odds);
        Metrics.Add("log_odds_ratio", ratio);
        Metrics.Add("log_odds_chosen", odds);
        AnswerMetrics.AddPairs(Metrics, batch, scores, means, means.mul(beta));
        var likelihood = LikelihoodLoss(batch.OfTargets(scores.LogProbs, RowRole.Chosen));
        return WithRouters(likelihood.sub(ratio.sum().mul(beta)), model, batch, routers).to(float32).MoveToOuterDisposeScope();
    }

    private protected override long CountChosen(TokenRow row) => row.Ids.Length - 1;

    // 1 for the targets that belong to an answer, 0 for those of a prompt.
    private static Tensor AnswerTokens(IReadOnlyList<TokenRow> rows, Device device)
    {
        var all = new List<float>();
        foreach (var row in rows)
        {
            var labels = row.Labels.Skip(1).Select(static l => l != TokenRow.Ignored);
            all.AddRange((row.Role == RowRole.Chosen ? labels : labels.Where(static l => l)).Select(static l => l ? 1f : 0f));
        }

        return tensor(all.ToArray(), device: device);
    }
}
