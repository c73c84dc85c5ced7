namespace OpenWeights.Tune.Models;

/// <summary>A module with weights of its own, each of which an adapter may put another in place of.</summary>
public interface IWeighted
{
    /// <summary>The weights, in the order of the module's names.</summary>
    IReadOnlyList<WeightSlot> Slots { get; }
}
