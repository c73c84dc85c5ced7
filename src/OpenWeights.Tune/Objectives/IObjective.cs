using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives;

/// <summary>A training objective.</summary>
public interface IObjective
{
    /// <summary>
    /// The loss summed over the batch's targets, a float32 scalar with a graph. The trainer divides by the number of targets of the whole step.
    /// </summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="batch">A batch with at least one target.</param>
    Tensor LossSum(CausalLanguageModel model, TokenBatch batch);
}
