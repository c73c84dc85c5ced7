using OpenWeights.Tune.Data;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives;

/// <summary>Supervised fine-tuning: cross entropy of the targets. Only hidden states that predict one reach the output head. Mixtures of experts
/// whose config asks for it (output_router_logits) add their routers' balance loss.</summary>
public sealed class SupervisedObjective : IObjective
{
    /// <inheritdoc/>
    public string Name => "sft";

    /// <inheritdoc/>
    public Tensor LossSum(CausalLanguageModel model, TokenBatch batch)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(batch);
        using var scope = NewDisposeScope();
        var routers = is_grad_enabled() ? model.Config.NewRouterRecord() : null;
        var hidden = model.call(batch.Input with { Routers = routers });
        var predicting = hidden.view(-1, hidden.size(2)).index_select(0, batch.Sources);
        var head = model.Head;
        var loss = head.Adapter is null && head.Bias is null
            ? HeadCrossEntropy.Sum(predicting, head.Weight, batch.Targets, model.Config.LogitMultiplier, model.Config.LogitSoftCap)
            : nn.functional.cross_entropy(model.Logits(predicting), batch.Targets, reduction: nn.Reduction.Sum);
        if (routers is not null)
        {
            // The loop divides by the targets of the step, so the balance loss of a micro-batch counts as its share of them.
            using Scalar weight = model.Config.RouterLossWeight * batch.TargetCount;
            loss = loss.add(routers.BalanceLoss(batch.RealTokens), weight);
        }

        return loss.MoveToOuterDisposeScope();
    }
}
