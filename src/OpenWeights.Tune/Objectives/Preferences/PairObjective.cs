using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Preferences;

/// <summary>Base of the objectives that train on pairs of a chosen and a rejected answer. The loss is a mean over the pairs of a step.</summary>
internal abstract class PairObjective : IObjective, IRankedObjective
{
    private long _tokens;

    /// <inheritdoc/>
    void IRankedObjective.Join(RankGroup ranks, Device device)
    {
        (Ranks, Device) = (ranks, device);
        Metrics.Join(ranks, device);
    }

    /// <inheritdoc/>
    public bool UsesDropout => false;

    /// <inheritdoc/>
    public JsonObject? State
    {
        get => new() { ["num_tokens"] = _tokens };
        set => _tokens = value?["num_tokens"]?.GetValue<long>() ?? 0;
    }

    /// <summary>The ranks that compute each step.</summary>
    private protected RankGroup Ranks { get; private set; } = RankGroup.Alone;

    /// <summary>Device of the model, where there are several ranks.</summary>
    private protected Device Device { get; private set; } = CPU;

    /// <summary>Metrics of the step.</summary>
    private protected MetricMeans Metrics { get; } = new();

    /// <summary>Number of pairs of the step.</summary>
    private protected long Pairs { get; private set; }

    /// <summary>Number of tokens of the step that the loss of chosen answers is a mean of.</summary>
    private protected long ChosenTokens { get; private set; }

    /// <inheritdoc/>
    public long Begin(CausalLanguageModel model, IReadOnlyList<IReadOnlyList<TokenRow>> batches)
    {
        ArgumentNullException.ThrowIfNull(batches);
        var rows = batches.SelectMany(static b => b).ToList();
        Pairs = rows.Count / 2;
        ChosenTokens = Math.Max(1, rows.Where(static r => r.Role == RowRole.Chosen).Sum(CountChosen));
        if (is_grad_enabled() || batches.Count == 0)
        {
            throw new InvalidOperationException("Begin is called with gradients off, before at least one micro-batch.");
        }

        Metrics.Dispose();
        Clear();
        _tokens += rows.Sum(static r => (long)r.Ids.Length);
        return Pairs;
    }

    /// <inheritdoc/>
    public abstract Tensor? LossSum(CausalLanguageModel model, IReadOnlyList<TokenRow> rows);

    /// <inheritdoc/>
    public IReadOnlyDictionary<string, double> End()
    {
        var means = Metrics.Take();
        means["num_tokens"] = _tokens;
        AddMetrics(means);
        return means;
    }

    /// <summary>Adds metrics of the step that are no means.</summary>
    /// <param name="metrics">The means.</param>
    private protected virtual void AddMetrics(Dictionary<string, double> metrics)
    {
    }

    /// <summary>Discards what an interrupted step has collected for <see cref="AddMetrics"/>.</summary>
    private protected virtual void Clear()
    {
    }

    /// <summary>Number of tokens of a chosen row that the loss of chosen answers counts.</summary>
    private protected virtual long CountChosen(TokenRow row) => row.CountTargets();

    /// <summary>Adds the load balancing loss of a mixture of experts to a micro-batch's loss.</summary>
    private protected static Tensor WithRouters(Tensor loss, CausalLanguageModel model, AnswerBatch batch, RouterRecord? routers) =>
        routers is null ? loss : loss.add(routers.BalanceLoss(batch.Tokens.RealTokens).mul(model.RouterLossWeight * batch.Tokens.Rows.Count / 2));

    /// <summary>The negative log-likelihood of chosen answers as a mean over the step's tokens, times the number of pairs that the loss is divided by.</summary>
    /// <param name="logProbs">Log-probabilities of this micro-batch's tokens.</param>
    private protected Tensor LikelihoodLoss(Tensor logProbs)
    {
        using var scope = NewDisposeScope();
        Metrics.Add("nll_loss", logProbs.neg());
        return logProbs.to(float64).sum().mul(-(double)Pairs / ChosenTokens).MoveToOuterDisposeScope();
    }
}
