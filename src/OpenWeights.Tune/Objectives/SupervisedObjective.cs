using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives;

/// <summary>Supervised fine-tuning: cross entropy of the targets. Only hidden states that predict one reach the output head.</summary>
/// <param name="settings">Label smoothing and z-loss; null for neither.</param>
public sealed class SupervisedObjective(ObjectiveSection? settings = null) : IObjective
{
    private readonly double _smoothing = settings?.LabelSmoothing ?? 0;
    private readonly double _zLoss = settings?.ZLoss ?? 0;

    /// <inheritdoc/>
    public string Name => "sft";

    /// <inheritdoc/>
    public Tensor LossSum(CausalLanguageModel model, TokenBatch batch)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(batch);
        using var scope = NewDisposeScope();
        var hidden = model.call(batch.Input);
        var predicting = hidden.view(-1, hidden.size(2)).index_select(0, batch.Sources);
        var head = model.Head;
        var plain = _smoothing == 0 && _zLoss == 0;
        var loss = head.Adapter is not null || head.Bias is not null ? OfLogits(model.Logits(predicting), batch.Targets)
            : plain ? HeadCrossEntropy.Sum(predicting, head.Weight, batch.Targets)
            : RegularizedHeadLoss.Sum(predicting, head.Weight, batch.Targets, _smoothing, _zLoss);
        return loss.MoveToOuterDisposeScope();
    }

    // A head that is more than its weight goes through the plain operators.
    private Tensor OfLogits(Tensor logits, Tensor targets)
    {
        var loss = nn.functional.cross_entropy(logits, targets, reduction: nn.Reduction.Sum, label_smoothing: _smoothing);
        if (_zLoss == 0)
        {
            return loss;
        }

        using Scalar z = _zLoss;
        return loss.Plus(logits.logsumexp(1).square().sum().mul(z));
    }
}
