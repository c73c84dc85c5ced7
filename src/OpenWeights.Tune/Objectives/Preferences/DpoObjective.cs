using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Preferences;

/// <summary>
/// Direct preference optimization (Rafailov et al., 2023) with the losses of TRL 1.16's DPOTrainer, <see cref="PairLosses"/> and sft, each with
/// its weight.
/// </summary>
internal sealed class DpoObjective(DpoSettings settings, IReferencePolicy? reference) : PairObjective
{
    /// <summary>Name of the loss that is the chosen answers' negative log-likelihood.</summary>
    internal const string Sft = "sft";

    /// <inheritdoc/>
    public override Tensor? LossSum(CausalLanguageModel model, IReadOnlyList<TokenRow> rows)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var scope = NewDisposeScope();
        var routers = is_grad_enabled() ? model.NewRouterRecord() : null;
        var batch = AnswerBatch.Of(rows, model, shares: routers is null);
        var referenced = batch.Reference(reference, batch.Tokens.Targets.to(float32));
        var scores = TokenLogProbs.Of(model, batch.Tokens, observe: true, routers: routers);
        var weights = settings.LengthAlpha is { } alpha ? LengthWeights(rows, alpha, model.Device) : null;
        var (policySums, referenceSums) = (batch.Sum(Weighted(scores.LogProbs, weights)), batch.Sum(Weighted(referenced, weights)));
        var (chosen, rejected) = (batch.With(RowRole.Chosen), batch.With(RowRole.Rejected));
        var pairs = new PairScores(
            policySums.index_select(0, chosen), policySums.index_select(0, rejected), referenceSums.index_select(0, chosen), referenceSums.index_select(0, rejected),
            batch.Lengths.index_select(0, chosen), batch.Lengths.index_select(0, rejected));
        var loss = Losses(pairs, batch, scores, settings.UseWeighting ? Confidence(batch, scores, chosen, rejected) : null);
        AnswerMetrics.AddPairs(Metrics, batch, scores, policySums, policySums.sub(referenceSums).mul(settings.Pair.Beta));
        return WithRouters(loss, model, batch, routers).to(float32).MoveToOuterDisposeScope();
    }

    private Tensor Losses(PairScores pairs, AnswerBatch batch, TokenLogProbs scores, Tensor? confidence)
    {
        using var scope = NewDisposeScope();
        var loss = zeros([], float64, pairs.Chosen.device);
        foreach (var (type, weight) in settings.Losses)
        {
            if (type == Sft)
            {
                loss = loss.add(LikelihoodLoss(batch.OfTargets(scores.LogProbs, RowRole.Chosen)).mul(weight));
                continue;
            }

            var each = PairLosses.Of(type, pairs, settings.Pair);
            loss = loss.add((confidence is null ? each : each.mul(confidence)).sum().mul(weight));
        }

        return loss.MoveToOuterDisposeScope();
    }

    // A mean over an answer's tokens of log p - log of the sum of squared probabilities, of both answers, exponentiated.
    private static Tensor Confidence(AnswerBatch batch, TokenLogProbs scores, Tensor chosen, Tensor rejected)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var mean = batch.Sum(scores.LogProbs.sub(scores.LogSumOfSquares!)).div(batch.Lengths);
        return mean.index_select(0, chosen).add(mean.index_select(0, rejected)).exp().MoveToOuterDisposeScope();
    }

    private static Tensor Weighted(Tensor logProbs, Tensor? weights) => weights is null ? logProbs : logProbs.mul(weights);

    // Of each target: 1 within the length of the pair's shorter answer, alpha beyond.
    private static Tensor LengthWeights(IReadOnlyList<TokenRow> rows, double alpha, Device device)
    {
        var lengths = rows.Select(static r => r.CountTargets()).ToArray();
        var weights = new List<float>();
        for (var i = 0; i < rows.Count; i++)
        {
            var shorter = Math.Min(lengths[i], lengths[i ^ 1]);
            weights.AddRange(Enumerable.Range(0, lengths[i]).Select(t => t < shorter ? 1 : (float)alpha));
        }

        return tensor(weights.ToArray(), device: device);
    }
}
