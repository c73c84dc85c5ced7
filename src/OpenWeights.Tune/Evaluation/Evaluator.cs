using System.Text.Json.Serialization;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Evaluation;

/// <summary>Evaluates a model on rows that it is not trained on.</summary>
public static class Evaluator
{
    /// <summary>Computes loss, perplexity and token accuracy.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="rows">The rows.</param>
    /// <param name="batchSize">Batch size, in rows.</param>
    /// <param name="step">Number of completed steps, for the result.</param>
    /// <param name="stop">Cancels between batches.</param>
    /// <exception cref="OperationCanceledException">Evaluation was cancelled.</exception>
    public static EvaluationMetrics Run(CausalLanguageModel model, IReadOnlyList<TokenRow> rows, int batchSize, long step, CancellationToken stop)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(rows);
        var (loss, correct, targets) = (0.0, 0L, 0L);

        // Rows of similar length are batched together to reduce padding; the sums do not depend on the order.
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

/// <summary>Result of an evaluation; one line of metrics.jsonl.</summary>
public sealed record EvaluationMetrics
{
    /// <summary>Number of completed steps.</summary>
    [JsonPropertyName("step")]
    public required long Step { get; init; }

    /// <summary>Mean cross entropy of the target tokens.</summary>
    [JsonPropertyName("eval_loss")]
    public required double Loss { get; init; }

    /// <summary>Perplexity, exp(loss).</summary>
    [JsonPropertyName("eval_perplexity")]
    public required double Perplexity { get; init; }

    /// <summary>Fraction of target tokens that the model predicts correctly (argmax).</summary>
    [JsonPropertyName("eval_token_accuracy")]
    public required double TokenAccuracy { get; init; }

    /// <summary>Number of target tokens.</summary>
    [JsonPropertyName("eval_target_tokens")]
    public required long TargetTokens { get; init; }
}
