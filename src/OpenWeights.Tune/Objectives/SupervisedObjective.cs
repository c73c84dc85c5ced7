using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives;

/// <summary>
/// Supervised fine-tuning: cross entropy of the targets. Only hidden states that predict a target are passed to the output head. For mixtures of
/// experts with output_router_logits, the load balancing loss is added.
/// </summary>
/// <param name="settings">Label smoothing and z-loss; null for neither.</param>
internal sealed class SupervisedObjective(ObjectiveSection? settings = null) : IObjective
{
    private readonly double _smoothing = settings?.LabelSmoothing ?? 0;
    private readonly double _zLoss = settings?.ZLoss ?? 0;

    // Dynamic fine-tuning (Wu et al., 2025): each token's cross entropy times its probability, without gradient through the latter.
    private readonly bool _isDynamic = settings?.LossType?.Values is ["dft"];

    /// <inheritdoc/>
    public long Begin(CausalLanguageModel model, IReadOnlyList<IReadOnlyList<TokenRow>> batches)
    {
        ArgumentNullException.ThrowIfNull(batches);
        return batches.Sum(static b => b.Sum(static r => (long)r.CountTargets()));
    }

    /// <inheritdoc/>
    public Tensor? LossSum(CausalLanguageModel model, IReadOnlyList<TokenRow> rows)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var scope = NewDisposeScope();
        var batch = TokenBatch.Of(rows, padId: 0, model.Device);
        return batch.TargetCount == 0 ? null : LossSum(model, batch).MoveToOuterDisposeScope();
    }

    /// <summary>The cross entropy summed over a batch's targets, a float32 scalar with a graph.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="batch">A batch with at least one target.</param>
    public Tensor LossSum(CausalLanguageModel model, TokenBatch batch)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(batch);
        using var scope = NewDisposeScope();
        var routers = is_grad_enabled() ? model.NewRouterRecord() : null;
        var loss = HeadLoss(model, batch, TokenLogProbs.Predicting(model, batch, routers));
        if (routers is not null)
        {
            // The trainer divides by the number of targets of the step, so a micro-batch's load balancing loss is weighted by its share of them.
            using Scalar weight = model.RouterLossWeight * batch.TargetCount;
            loss = loss.add(routers.BalanceLoss(batch.RealTokens), weight);
        }

        return loss.MoveToOuterDisposeScope();
    }

    private Tensor HeadLoss(CausalLanguageModel model, TokenBatch batch, Tensor predicting)
    {
        var (head, config, targets) = (model.Head, model.Config, batch.Targets);
        var regularized = _smoothing != 0 || _zLoss != 0;
        if (_isDynamic)
        {
            var logProbs = TokenLogProbs.Of(model, batch, predicting);
            return logProbs.detach().exp().mul(logProbs).sum().neg();
        }

        if (head.Adapter is not null || head.Bias is not null || (regularized && (config.LogitMultiplier != 1 || config.LogitSoftCap is not null)))
        {
            return RecomputedHead.Of(
                predicting, targets, HeadCrossEntropy.RowsOfChunk(model.Head.Weight), (states, wanted) => [OfLogits(model.Logits(states), wanted)],
                adapted: model.AdaptedHead(batch.Input, batch.Sources))[0].sum();
        }

        return regularized
            ? RegularizedHeadLoss.Sum(predicting, head.Weight, targets, _smoothing, _zLoss)
            : HeadCrossEntropy.Sum(predicting, head.Weight, targets, config.LogitMultiplier, config.LogitSoftCap);
    }

    // A head with an adapter or bias uses composed operators.
    private Tensor OfLogits(Tensor logits, Tensor targets)
    {
        var loss = nn.functional.cross_entropy(logits, targets, reduction: nn.Reduction.None, label_smoothing: _smoothing);
        if (_zLoss == 0)
        {
            return loss;
        }

        using Scalar z = _zLoss;
        return loss.Plus(logits.logsumexp(1).square().mul(z));
    }
}
