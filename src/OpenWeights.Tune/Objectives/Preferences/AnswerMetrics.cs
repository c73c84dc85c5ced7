using OpenWeights.Tune.Data.Tokens;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Preferences;

/// <summary>The metrics that preference objectives share, by TRL's names.</summary>
internal static class AnswerMetrics
{
    /// <summary>Adds what is known of chosen and rejected answers: rewards, log-probabilities, mean logits, entropy and accuracy.</summary>
    /// <param name="metrics">Receives the metrics.</param>
    /// <param name="batch">The rows.</param>
    /// <param name="scores">The policy's values of the targets.</param>
    /// <param name="logProbs">Log-probability of each row's answer, [rows].</param>
    /// <param name="rewards">Reward of each row, [rows].</param>
    internal static void AddPairs(MetricMeans metrics, AnswerBatch batch, TokenLogProbs scores, Tensor logProbs, Tensor rewards)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var (chosen, rejected) = (rewards.index_select(0, batch.With(RowRole.Chosen)), rewards.index_select(0, batch.With(RowRole.Rejected)));
        AddSides(metrics, batch, scores, logProbs, rewards, RowRole.Chosen, RowRole.Rejected);
        metrics.Add("rewards/margins", chosen.sub(rejected));
        metrics.Add("rewards/accuracies", chosen.gt(rejected).to(float64));
        metrics.Add("mean_token_accuracy", batch.OfTargets(scores.Correct!, RowRole.Chosen));
    }

    /// <summary>Adds what is known of each of two kinds of answers; of a kind that is not in the batch nothing.</summary>
    internal static void AddSides(MetricMeans metrics, AnswerBatch batch, TokenLogProbs scores, Tensor logProbs, Tensor rewards, RowRole good, RowRole bad)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        foreach (var (role, name) in new[] { (good, "chosen"), (bad, "rejected") })
        {
            var rows = batch.With(role);
            metrics.Add($"rewards/{name}", rewards.index_select(0, rows));
            metrics.Add($"logps/{name}", logProbs.index_select(0, rows));
            metrics.Add($"logits/{name}", batch.OfTargets(scores.MeanLogit!, role));
        }

        metrics.Add("entropy", scores.Entropy!);
    }
}
