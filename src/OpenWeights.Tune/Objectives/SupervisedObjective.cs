using OpenWeights.Tune.Data;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives;

/// <summary>Supervised fine-tuning: cross entropy of the targets. Only hidden states that predict one reach the output head.</summary>
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
        var hidden = model.call(batch.Input);
        var predicting = hidden.view(-1, hidden.size(2)).index_select(0, batch.Sources);
        var head = model.Head;
        return (head.Adapter is null && head.Bias is null
            ? HeadCrossEntropy.Sum(predicting, head.Weight, batch.Targets)
            : nn.functional.cross_entropy(model.Logits(predicting), batch.Targets, reduction: nn.Reduction.Sum)).MoveToOuterDisposeScope();
    }
}
