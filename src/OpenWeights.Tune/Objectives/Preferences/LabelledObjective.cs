using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Preferences;

/// <summary>
/// Base of the objectives that train on single answers, each desirable or not. The loss is a mean over the rows of a step. The reward of an
/// answer is beta times its log-ratio, policy to reference.
/// </summary>
internal abstract class LabelledObjective(double beta, IReferencePolicy reference) : IObjective, IRankedObjective
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
    public virtual JsonObject? State
    {
        get => new() { ["num_tokens"] = _tokens };
        set => _tokens = value?["num_tokens"]?.GetValue<long>() ?? 0;
    }

    /// <summary>The ranks that compute each step.</summary>
    private protected RankGroup Ranks { get; private set; } = RankGroup.Alone;

    /// <summary>Device of the model, where there are several ranks.</summary>
    private protected Device Device { get; private set; } = CPU;

    /// <summary>Metrics of the step.</summary>
    protected MetricMeans Metrics { get; } = new();

    /// <inheritdoc/>
    public virtual long Begin(CausalLanguageModel model, IReadOnlyList<IReadOnlyList<TokenRow>> batches)
    {
        ArgumentNullException.ThrowIfNull(batches);
        Metrics.Dispose();
        _tokens += batches.Sum(static b => b.Sum(static r => (long)r.Ids.Length));
        return batches.Sum(static b => b.Count);
    }

    /// <inheritdoc/>
    public Tensor? LossSum(CausalLanguageModel model, IReadOnlyList<TokenRow> rows)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(rows);
        using var scope = NewDisposeScope();
        var batch = AnswerBatch.Of([.. rows.Select(Unpaired)], model);
        var routers = is_grad_enabled() ? model.NewRouterRecord() : null;
        var referenced = batch.Sum(batch.Reference(reference, batch.Tokens.Targets.to(float32)));
        var scores = TokenLogProbs.Of(model, batch.Tokens, observe: true, routers: routers);
        var logProbs = batch.Sum(scores.LogProbs);
        var rewards = logProbs.sub(referenced).mul(beta);
        AnswerMetrics.AddSides(Metrics, batch, scores, logProbs, rewards, RowRole.Desired, RowRole.Undesired);
        var desired = tensor(batch.Tokens.Rows.Select(static r => r.Role == RowRole.Desired).ToArray(), device: model.Device);
        var loss = Losses(rows, rewards, desired).sum();
        if (routers is not null)
        {
            loss = loss.add(routers.BalanceLoss(batch.Tokens.RealTokens).mul(model.RouterLossWeight * rows.Count));
        }

        return loss.to(float32).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public virtual IReadOnlyDictionary<string, double> End()
    {
        var means = Metrics.Take();
        means["num_tokens"] = _tokens;
        if (means.TryGetValue("rewards/chosen", out var chosen) && means.TryGetValue("rewards/rejected", out var rejected))
        {
            means["rewards/margins"] = chosen - rejected;
        }

        return means;
    }

    // A pair is two answers with labels.
    private static TokenRow Unpaired(TokenRow row) => row.Role switch
    {
        RowRole.Chosen => row with { Role = RowRole.Desired },
        RowRole.Rejected => row with { Role = RowRole.Undesired },
        _ => row,
    };

    /// <summary>Sum of the rewards of a micro-batch, without gradients.</summary>
    /// <param name="model">The policy.</param>
    /// <param name="rows">The rows.</param>
    private protected double RewardSum(CausalLanguageModel model, IReadOnlyList<TokenRow> rows)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var batch = AnswerBatch.Of([.. rows.Select(Unpaired)], model);
        var policy = TokenLogProbs.Of(model, batch.Tokens).LogProbs;
        return batch.Sum(policy).sub(batch.Sum(batch.Reference(reference, policy))).mul(beta).sum().ToDouble();
    }

    /// <summary>The loss of each row, [rows].</summary>
    /// <param name="rows">The micro-batch.</param>
    /// <param name="rewards">Rewards, [rows], float64.</param>
    /// <param name="desired">Whether each answer is desirable, [rows].</param>
    private protected abstract Tensor Losses(IReadOnlyList<TokenRow> rows, Tensor rewards, Tensor desired);
}
