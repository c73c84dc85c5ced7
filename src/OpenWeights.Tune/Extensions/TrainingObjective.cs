using static TorchSharp.torch;

namespace OpenWeights.Tune.Extensions;

/// <summary>
/// What a run minimises. A class of your own is named in objective.type, or handed over in ObjectiveSection.Custom; it needs a constructor without
/// parameters, or one that takes an ObjectiveSection. One that implements <see cref="IDisposable"/> is disposed at the end.
/// </summary>
public abstract class TrainingObjective
{
    /// <summary>Whether it trains on pairs of a chosen and a rejected answer, and not on rows of one text or chat each.</summary>
    public virtual bool TrainsOnPairs => false;

    /// <summary>
    /// The loss of a micro-batch, summed over its targets, or over its pairs where it trains on pairs. The run divides it by their number in the whole step.
    /// </summary>
    /// <param name="batch">What the model says of the rows.</param>
    /// <returns>A tensor of one number, with a graph.</returns>
    public abstract Tensor Loss(ObjectiveBatch batch);

    /// <summary>What is reported of a step, or of an evaluation, besides its loss: called at its end.</summary>
    public virtual IReadOnlyDictionary<string, double> Metrics() => new Dictionary<string, double>();
}
