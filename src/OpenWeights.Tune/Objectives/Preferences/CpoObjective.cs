using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Preferences;

/// <summary>Settings of contrastive preference optimization, with TRL's names.</summary>
internal sealed record CpoSettings
{
    /// <summary>loss_type: sigmoid, hinge, ipo, simpo or alphapo.</summary>
    internal string Loss { get; init; } = "sigmoid";

    /// <summary>beta.</summary>
    internal double Beta { get; init; } = 0.1;

    /// <summary>label_smoothing.</summary>
    internal double LabelSmoothing { get; init; }

    /// <summary>cpo_alpha: weight of the chosen answers' negative log-likelihood.</summary>
    internal double LikelihoodWeight { get; init; } = 1;

    /// <summary>simpo_gamma: margin of SimPO.</summary>
    internal double Gamma { get; init; } = 0.5;

    /// <summary>alpha: AlphaPO's transformation (1 - exp(-alpha log p)) / alpha of log-probabilities; 0 for none.</summary>
    internal double Alpha { get; init; }

    /// <summary>The settings of a config's section.</summary>
    internal static CpoSettings Of(ObjectiveSection section) => new()
    {
        Loss = section.LossType?.Values[0] ?? "sigmoid",
        Beta = section.Beta ?? 0.1,
        LabelSmoothing = section.LabelSmoothing,
        LikelihoodWeight = section.CpoAlpha,
        Gamma = section.SimpoGamma,
        Alpha = section.Alpha,
    };
}

/// <summary>
/// Contrastive preference optimization (Xu et al., 2024), SimPO (Meng et al., 2024) and AlphaPO (Gupta et al., 2025), without a reference, as
/// TRL's CPOTrainer.
/// </summary>
internal sealed class CpoObjective(CpoSettings settings) : PairObjective
{
    private readonly bool _isSimple = settings.Loss is "simpo" or "alphapo";

    // TRL: alphapo is simpo without the likelihood.
    private readonly double _likelihood = settings.Loss == "alphapo" ? 0 : settings.LikelihoodWeight;

    /// <inheritdoc/>
    public override Tensor? LossSum(CausalLanguageModel model, IReadOnlyList<TokenRow> rows)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var scope = NewDisposeScope();
        var routers = is_grad_enabled() ? model.NewRouterRecord() : null;
        var batch = AnswerBatch.Of(rows, model, shares: routers is null);
        var scores = TokenLogProbs.Of(model, batch.Tokens, observe: true, routers: routers);
        var logProbs = batch.Sum(scores.LogProbs);
        if (_isSimple || settings.Loss == "ipo")
        {
            logProbs = logProbs.div(batch.Lengths);
        }

        var transformed = settings.Alpha == 0 ? logProbs : logProbs.mul(-settings.Alpha).exp().neg().add(1).div(settings.Alpha);
        var difference = transformed.index_select(0, batch.With(RowRole.Chosen)).sub(transformed.index_select(0, batch.With(RowRole.Rejected)));
        var loss = Losses(difference).sum();
        if (_likelihood != 0)
        {
            loss = loss.add(LikelihoodLoss(batch.OfTargets(scores.LogProbs, RowRole.Chosen)).mul(_likelihood));
        }
        else
        {
            Metrics.Add("nll_loss", loss.zeros_like());
        }

        AnswerMetrics.AddPairs(Metrics, batch, scores, logProbs, transformed.mul(settings.Beta));
        return WithRouters(loss, model, batch, routers).to(float32).MoveToOuterDisposeScope();
    }

    private Tensor Losses(Tensor difference)
    {
        switch (settings.Loss)
        {
            case "hinge":
                return nn.functional.relu(difference.mul(-settings.Beta).add(1));
            case "ipo":
                return difference.sub(1 / (2 * settings.Beta)).square();
            default:
                var logits = (_isSimple ? difference.sub(settings.Gamma / settings.Beta) : difference).mul(settings.Beta);
                return PairLosses.Smoothed(logits, settings.LabelSmoothing);
        }
    }
}
