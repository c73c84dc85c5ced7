using OpenWeights.Tune.Data;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

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
        foreach (var chunk in Enumerable.Range(0, rows.Count).OrderBy(i => IRowList.LengthOf(rows, i)).Chunk(batchSize))
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
