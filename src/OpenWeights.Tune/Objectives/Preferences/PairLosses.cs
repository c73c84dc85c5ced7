using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Preferences;

/// <summary>Settings of a pair's loss, with TRL's names.</summary>
internal sealed record PairLossSettings
{
    /// <summary>beta.</summary>
    internal double Beta { get; init; } = 0.1;

    /// <summary>label_smoothing: probability that a label is wrong.</summary>
    internal double LabelSmoothing { get; init; }

    /// <summary>f_divergence_type.</summary>
    internal string Divergence { get; init; } = "reverse_kl";

    /// <summary>f_alpha_divergence_coef.</summary>
    internal double AlphaDivergence { get; init; } = 0.5;

    /// <summary>discopop_tau.</summary>
    internal double DiscoPopTau { get; init; } = 0.05;
}

/// <summary>
/// The losses of a pair by TRL 1.16's loss_type (sft, a loss of tokens, is not among them). With log-ratios w and l of the chosen and rejected
/// answer, their scores under the f-divergence, and Δ their difference. To add one, add its formula and a line here.
/// </summary>
internal static class PairLosses
{
    // Largest exponent of alpha_divergence, as in TRL.
    private const double MaxExponent = 80;

    private static readonly Dictionary<string, Func<PairScores, PairLossSettings, Tensor>> s_losses = new()
    {
        // DPO (Rafailov et al., 2023).
        ["sigmoid"] = static (p, s) => LogSigmoid(Delta(p, s).mul(s.Beta)).neg(),

        // Conservative DPO (Mitchell, 2023), which TRL computed for sigmoid with label_smoothing before 0.29.
        ["cdpo"] = static (p, s) => Smoothed(Delta(p, s).mul(s.Beta), s.LabelSmoothing),

        // SLiC (Zhao et al., 2023).
        ["hinge"] = static (p, s) => nn.functional.relu(Delta(p, s).mul(-s.Beta).add(1)),

        // IPO (Azar et al., 2023), with means over tokens.
        ["ipo"] = static (p, s) => DeltaOfMeans(p, s).sub(1 / (2 * s.Beta)).square(),

        // EXO (Ji et al., 2024), equation 16.
        ["exo_pair"] = Exo,

        // NCA (Chen et al., 2024).
        ["nca_pair"] = static (p, s) => LogSigmoid(p.ChosenRatio.mul(s.Beta)).neg()
            .sub(LogSigmoid(p.ChosenRatio.mul(-s.Beta)).mul(0.5)).sub(LogSigmoid(p.RejectedRatio.mul(-s.Beta)).mul(0.5)),

        // Robust DPO (Chowdhury et al., 2024).
        ["robust"] = static (p, s) => Robust(Delta(p, s).mul(s.Beta), s.LabelSmoothing),

        // BCO (Jung et al., 2024) without its shift.
        ["bco_pair"] = static (p, s) => LogSigmoid(p.ChosenRatio.mul(s.Beta)).neg().sub(LogSigmoid(p.RejectedRatio.mul(-s.Beta))),

        // SPPO (Wu et al., 2024) with hard labels.
        ["sppo_hard"] = static (p, s) => p.ChosenRatio.sub(0.5 / s.Beta).square().add(p.RejectedRatio.add(0.5 / s.Beta).square()),

        // AOT (Melnyk et al., 2024): the differences are sorted within the micro-batch.
        ["aot"] = static (p, s) => Smoothed(Sorted(p.Chosen.sub(p.Rejected)).sub(Sorted(p.ChosenReference.sub(p.RejectedReference))).mul(s.Beta), s.LabelSmoothing),
        ["aot_unpaired"] = static (p, s) => Smoothed(Sorted(p.ChosenRatio).sub(Sorted(p.RejectedRatio)).mul(s.Beta), s.LabelSmoothing),

        // APO (D'Oosterlinck et al., 2024).
        ["apo_zero"] = static (p, s) => p.ChosenRatio.mul(s.Beta).sigmoid().neg().add(1).add(p.RejectedRatio.mul(s.Beta).sigmoid()),
        ["apo_down"] = static (p, s) => p.ChosenRatio.mul(s.Beta).sigmoid().add(1).sub(p.ChosenRatio.sub(p.RejectedRatio).mul(s.Beta).sigmoid()),

        // DiscoPOP (Lu et al., 2024): log-ratio modulated loss.
        ["discopop"] = DiscoPop,

        // DPO with means over tokens.
        ["sigmoid_norm"] = static (p, s) => LogSigmoid(DeltaOfMeans(p, s).mul(s.Beta)).neg(),
    };

    /// <summary>The valid names.</summary>
    internal static IReadOnlyList<string> Names { get; } = [.. s_losses.Keys];

    /// <summary>The loss of each pair, [pairs].</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <param name="pairs">The scores.</param>
    /// <param name="settings">The settings.</param>
    internal static Tensor Of(string name, PairScores pairs, PairLossSettings settings)
    {
        using var scope = NewDisposeScope();
        return s_losses[name](pairs, settings).MoveToOuterDisposeScope();
    }

    /// <summary>log σ(x).</summary>
    internal static Tensor LogSigmoid(Tensor logits) => nn.functional.softplus(logits.neg()).neg();

    /// <summary>-(1 - e) log σ(x) - e log σ(-x).</summary>
    internal static Tensor Smoothed(Tensor logits, double smoothing) => LogSigmoid(logits).mul(smoothing - 1).sub(LogSigmoid(logits.neg()).mul(smoothing));

    // The score of a log-ratio u under the f-divergence; reverse_kl: u.
    private static Tensor Score(Tensor ratio, PairLossSettings settings) => settings.Divergence switch
    {
        "forward_kl" => ratio.neg().exp().neg().add(1),
        "js_divergence" => LogSigmoid(ratio).add(Math.Log(2)),
        "alpha_divergence" when settings.AlphaDivergence != 1 => ratio.mul(settings.AlphaDivergence - 1).clamp(max: MaxExponent).exp().sub(1).div(settings.AlphaDivergence - 1),
        _ => ratio,
    };

    private static Tensor Delta(PairScores pairs, PairLossSettings settings) => Score(pairs.ChosenRatio, settings).sub(Score(pairs.RejectedRatio, settings));

    private static Tensor DeltaOfMeans(PairScores pairs, PairLossSettings settings) =>
        Score(pairs.ChosenRatio, settings).div(pairs.ChosenLengths).sub(Score(pairs.RejectedRatio, settings).div(pairs.RejectedLengths));

    private static Tensor Sorted(Tensor values) => values.topk((int)values.size(0)).values;

    private static Tensor Robust(Tensor logits, double smoothing) => LogSigmoid(logits).mul(smoothing - 1).add(LogSigmoid(logits.neg()).mul(smoothing)).div(1 - (2 * smoothing));

    // p (log p - log(1 - e)) + (1 - p) (log(1 - p) - log e)
    private static Tensor Exo(PairScores pairs, PairLossSettings settings)
    {
        var logits = Delta(pairs, settings).mul(settings.Beta);
        return logits.sigmoid().mul(LogSigmoid(logits).sub(Math.Log(1 - settings.LabelSmoothing)))
            .add(logits.neg().sigmoid().mul(LogSigmoid(logits.neg()).sub(Math.Log(settings.LabelSmoothing))));
    }

    private static Tensor DiscoPop(PairScores pairs, PairLossSettings settings)
    {
        var logits = Delta(pairs, settings).mul(settings.Beta);
        var modulation = logits.div(settings.DiscoPopTau).sigmoid();
        return modulation.neg().add(1).mul(LogSigmoid(logits).neg()).add(modulation.mul(logits.neg().exp()));
    }
}
