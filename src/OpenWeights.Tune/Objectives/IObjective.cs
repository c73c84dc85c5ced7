using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives;

/// <summary>A training objective.</summary>
internal interface IObjective
{
    /// <summary>Whether dropout is on while training. TRL's preference trainers turn it off (disable_dropout).</summary>
    bool UsesDropout => true;

    /// <summary>What must be kept for resuming, beside the weights; null for nothing.</summary>
    JsonObject? State
    {
        get => null;
        set
        {
        }
    }

    /// <summary>The micro-batches of a step. An objective that samples answers makes them from the rows' prompts.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="step">The step, from 0.</param>
    /// <param name="rows">Selects the rows of each step.</param>
    IReadOnlyList<IReadOnlyList<TokenRow>> Rows(CausalLanguageModel model, long step, BatchSampler rows)
    {
        ArgumentNullException.ThrowIfNull(rows);
        return rows.Of(step);
    }

    /// <summary>The micro-batches of an evaluation.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="rows">The rows, in order.</param>
    /// <param name="batchSize">Batch size, in rows.</param>
    IReadOnlyList<IReadOnlyList<TokenRow>> EvaluationRows(CausalLanguageModel model, IReadOnlyList<TokenRow> rows, int batchSize) => [.. rows.Chunk(batchSize)];

    /// <summary>The most demanding micro-batch of the run.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="rows">Selects the rows of each step.</param>
    IReadOnlyList<TokenRow> Longest(CausalLanguageModel model, BatchSampler rows)
    {
        ArgumentNullException.ThrowIfNull(rows);
        return rows.Longest();
    }

    /// <summary>Answers sampled since the last call, as lines of samples.jsonl.</summary>
    IReadOnlyList<JsonObject> TakeSamples() => [];

    /// <summary>What went wrong since the last call without stopping the run.</summary>
    IReadOnlyList<string> TakeWarnings() => [];

    /// <summary>
    /// Called before the micro-batches of a step, or of an evaluation, with gradients off. Returns the number that the loss sums of its
    /// micro-batches are divided by, counted over all of them: targets, pairs or rows.
    /// </summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="batches">The rows of each micro-batch.</param>
    long Begin(CausalLanguageModel model, IReadOnlyList<IReadOnlyList<TokenRow>> batches);

    /// <summary>The loss summed over the units of a micro-batch, a float32 scalar with a graph; null if nothing in it is trained.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="rows">The rows of the micro-batch.</param>
    Tensor? LossSum(CausalLanguageModel model, IReadOnlyList<TokenRow> rows);

    /// <summary>Called after the micro-batches: metrics of the step besides its loss, by TRL's names.</summary>
    IReadOnlyDictionary<string, double> End() => new Dictionary<string, double>();
}
