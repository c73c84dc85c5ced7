using System.Text.Json.Serialization;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Evaluation;

/// <summary>Measures a model on rows that it is not trained on.</summary>
public static class Evaluator
{
    /// <summary>Loss, perplexity and token accuracy over rows.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="rows">The rows.</param>
    /// <param name="batchSize">Rows at once.</param>
    /// <param name="step">The number of steps done, for the result.</param>
    /// <param name="stop">Stops between batches.</param>
    /// <exception cref="OperationCanceledException">It was stopped.</exception>
    public static EvaluationMetrics Run(CausalLanguageModel model, IReadOnlyList<TokenRow> rows, int batchSize, long step, CancellationToken stop)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(rows);
        var (loss, correct, targets) = (0.0, 0L, 0L);

        // Rows of like lengths together waste the least on padding; the sums do not depend on the order.
        foreach (var chunk in Enumerable.Range(0, rows.Count).OrderBy(i => RowList.LengthOf(rows, i)).Chunk(batchSize))
        {
            stop.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            var batch = TokenBatch.Of([.. chunk.Select(i => rows[i])], padId: 0, model.Device);
            var (batchLoss, batchCorrect) = TokenScores.Of(model, batch);
            loss += batchLoss;
            correct += batchCorrect;
            targets += batch.TargetCount;
        }

        return new EvaluationMetrics
        {
            Step = step,
            Loss = loss / targets,
            Perplexity = Math.Exp(loss / targets),
            TokenAccuracy = (double)correct / targets,
            TargetTokens = targets,
        };
    }
}

/// <summary>An evaluation; a line of metrics.jsonl.</summary>
public sealed record EvaluationMetrics
{
    /// <summary>The number of steps done.</summary>
    [JsonPropertyName("step")]
    public required long Step { get; init; }

    /// <summary>The mean cross entropy of the eval data's target tokens.</summary>
    [JsonPropertyName("eval_loss")]
    public required double Loss { get; init; }

    /// <summary>e to the loss.</summary>
    [JsonPropertyName("eval_perplexity")]
    public required double Perplexity { get; init; }

    /// <summary>The share of target tokens that were the model's first choice.</summary>
    [JsonPropertyName("eval_token_accuracy")]
    public required double TokenAccuracy { get; init; }

    /// <summary>The number of target tokens.</summary>
    [JsonPropertyName("eval_target_tokens")]
    public required long TargetTokens { get; init; }
}
