using System.Text.Json.Serialization;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Evaluation;

/// <summary>Evaluates a model on rows that it is not trained on.</summary>
internal static class Evaluator
{
    /// <summary>Computes loss, perplexity and token accuracy.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="rows">The rows.</param>
    /// <param name="batchSize">Batch size, in rows.</param>
    /// <param name="step">Number of completed steps, for the result.</param>
    /// <param name="stop">Cancels between batches.</param>
    /// <exception cref="OperationCanceledException">Evaluation was cancelled.</exception>
    public static EvaluationMetrics Run(CausalLanguageModel model, IReadOnlyList<TokenRow> rows, int batchSize, long step, CancellationToken stop) =>
        Run(model, rows, batchSize, step, RankGroup.Alone, stop);

    /// <summary>The same with the rows dealt out to several ranks, which all get the result.</summary>
    internal static EvaluationMetrics Run(CausalLanguageModel model, IReadOnlyList<TokenRow> rows, int batchSize, long step, RankGroup ranks, CancellationToken stop)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(rows);
        using var doing = ranks.Activity?.Do("the evaluation");
        var (loss, correct, targets) = (0.0, 0L, 0L);

        // Rows of similar length are batched together to reduce padding; the sums do not depend on the order.
        int[][] chunks = [.. Enumerable.Range(0, rows.Count).OrderBy(i => RowList.LengthOf(rows, i)).Chunk(batchSize)];
        foreach (var (chunk, isOwn) in ranks.Passes(chunks, model))
        {
            stop.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            var batch = TokenBatch.Of([.. chunk.Select(i => rows[i])], padId: 0, model.Device);
            ranks.Activity?.Begins(batch.Input.InputIds.numel());
            var (batchLoss, batchCorrect) = TokenScores.Of(model, batch);
            if (!isOwn)
            {
                continue;
            }

            loss += batchLoss;
            correct += batchCorrect;
            targets += batch.TargetCount;
        }

        if (!ranks.IsAlone)
        {
            var sums = ranks.Add([loss, correct, targets], model.Device);
            (loss, correct, targets) = (sums[0], (long)sums[1], (long)sums[2]);
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

    /// <summary>Computes the loss and the metrics of an objective over rows.</summary>
    /// <param name="objective">The objective; what it keeps for resuming is left as it is.</param>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="rows">The rows, in order.</param>
    /// <param name="batchSize">Batch size, in rows; a multiple of the rows of an example.</param>
    /// <param name="step">Number of completed steps, for the result.</param>
    public static EvaluationMetrics Run(IObjective objective, CausalLanguageModel model, IReadOnlyList<TokenRow> rows, int batchSize, long step) =>
        Run(objective, model, rows, batchSize, step, RankGroup.Alone);

    /// <summary>The same with the micro-batches dealt out to the ranks of the objective, which all get the result.</summary>
    internal static EvaluationMetrics Run(IObjective objective, CausalLanguageModel model, IReadOnlyList<TokenRow> rows, int batchSize, long step, RankGroup ranks)
    {
        ArgumentNullException.ThrowIfNull(objective);
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(rows);
        using var nothing = no_grad();
        var state = objective.State;
        var batches = objective.EvaluationRows(model, rows, batchSize);
        using var doing = ranks.Activity?.Do("the evaluation");
        var units = objective.Begin(model, batches);
        var loss = 0.0;
        foreach (var (batch, isOwn) in ranks.Passes(batches, model))
        {
            using var scope = NewDisposeScope();
            ranks.Activity?.Begins((long)batch.Count * batch.Max(static r => r.Ids.Length));
            if (isOwn)
            {
                loss += objective.LossSum(model, batch)?.ToDouble() ?? 0;
            }
            else
            {
                MetricMeans.Without(() => objective.LossSum(model, batch));
            }
        }

        loss = ranks.Add([loss], model.Device)[0];

        var metrics = objective.End();
        objective.State = state;
        return new EvaluationMetrics
        {
            Step = step,
            Loss = loss / units,
            TargetTokens = batches.Sum(static b => b.Sum(static r => (long)r.CountTargets())),
            Objective = metrics.Where(static m => m.Key != "num_tokens").ToDictionary(static m => $"eval_{m.Key}", static m => m.Value),
        };
    }
}

/// <summary>Result of an evaluation; one line of metrics.jsonl.</summary>
public sealed record EvaluationMetrics
{
    /// <summary>Number of completed steps.</summary>
    [JsonPropertyName("step")]
    public required long Step { get; init; }

    /// <summary>The objective's loss; for sft the mean cross entropy of the target tokens.</summary>
    [JsonPropertyName("eval_loss")]
    public required double Loss { get; init; }

    /// <summary>Perplexity, exp(loss); null for an objective whose loss is no cross entropy.</summary>
    [JsonPropertyName("eval_perplexity")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? Perplexity { get; init; }

    /// <summary>Fraction of target tokens that the model predicts correctly (argmax); null as for the perplexity.</summary>
    [JsonPropertyName("eval_token_accuracy")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? TokenAccuracy { get; init; }

    /// <summary>Number of target tokens.</summary>
    [JsonPropertyName("eval_target_tokens")]
    public required long TargetTokens { get; init; }

    /// <summary>Metrics of the objective besides its loss, by TRL's names after eval_; written beside the others.</summary>
    [JsonIgnore]
    public IReadOnlyDictionary<string, double> Objective { get; init; } = new Dictionary<string, double>();
}
