using OpenWeights.Tune.Distributed;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives;

/// <summary>
/// An objective that several ranks can compute: each of them is given all micro-batches of a step at its beginning, and then its share of them. Metrics, and what
/// depends on other micro-batches, are of all ranks.
/// </summary>
internal interface IRankedObjective
{
    /// <summary>Called once, before the first step.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="device">Device of the model.</param>
    void Join(RankGroup ranks, Device device);
}
