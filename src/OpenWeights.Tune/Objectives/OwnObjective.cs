using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Extensions;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives;

/// <summary>An objective of the user's.</summary>
/// <param name="own">The objective.</param>
internal sealed class OwnObjective(TrainingObjective own) : IObjective, IDisposable
{
    /// <inheritdoc/>
    public bool UsesDropout => !own.TrainsOnPairs;

    /// <inheritdoc/>
    public long Begin(CausalLanguageModel model, IReadOnlyList<IReadOnlyList<TokenRow>> batches)
    {
        ArgumentNullException.ThrowIfNull(batches);
        return own.TrainsOnPairs ? batches.Sum(static b => (long)b.Count) / 2 : batches.Sum(static b => b.Sum(static r => (long)r.CountTargets()));
    }

    /// <inheritdoc/>
    public Tensor? LossSum(CausalLanguageModel model, IReadOnlyList<TokenRow> rows)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var scope = NewDisposeScope();
        var batch = TokenBatch.Of(rows, padId: 0, model.Device);
        if (batch.TargetCount == 0)
        {
            return null;
        }

        var routers = is_grad_enabled() ? model.NewRouterRecord() : null;
        var predicting = TokenLogProbs.Predicting(model, batch, routers);
        var loss = own.Loss(new ObjectiveBatch(
            () => TokenLogProbs.Of(model, batch, predicting),
            () => Logits(model, batch, predicting),
            values => TokenLogProbs.SumRows(values, batch),
            batch.Targets,
            batch.TargetRows,
            rows.Count));
        Require(loss);
        if (routers is not null)
        {
            var units = own.TrainsOnPairs ? rows.Count / 2 : batch.TargetCount;
            using Scalar weight = model.RouterLossWeight * units;
            loss = loss.add(routers.BalanceLoss(batch.RealTokens), weight);
        }

        return loss.to(float32).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public IReadOnlyDictionary<string, double> End() => own.Metrics();

    /// <inheritdoc/>
    public void Dispose() => (own as IDisposable)?.Dispose();

    private static Tensor Logits(CausalLanguageModel model, TokenBatch batch, Tensor predicting)
    {
        using var some = AdaptedTokens.Use(model.AdaptedHead(batch.Input, batch.Sources));
        return model.Logits(predicting);
    }

    private void Require(Tensor loss)
    {
        var name = own.GetType().FullName;
        if (loss is null || loss.numel() != 1)
        {
            throw new InvalidDataException($"the objective {name} returned {(loss is null ? "null" : $"a tensor of {loss.numel()} numbers")} for the loss of a micro-batch; a tensor of one number is expected, the sum.");
        }

        if (is_grad_enabled() && !loss.requires_grad)
        {
            throw new InvalidDataException($"the objective {name} returned a loss without a graph, from which nothing is learned; compute it from the batch's LogProbs or Logits, by tensor operators alone.");
        }
    }
}
