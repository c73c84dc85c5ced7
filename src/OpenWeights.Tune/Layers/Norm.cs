using OpenWeights.Tune.Layers.Projections;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>A normalization over the last dimension.</summary>
/// <param name="name">The name of the norm's type.</param>
internal abstract class Norm(string name) : nn.Module<Tensor, Tensor>(name), IWeighted
{
    /// <inheritdoc/>
    public abstract IReadOnlyList<WeightSlot> Slots { get; }

    /// <summary>
    /// The normalized states as input of linear layers. By default they are saved for backward; a norm that can recompute them overrides this.
    /// </summary>
    /// <param name="states">States, [..., features].</param>
    internal virtual LayerInput Before(Tensor states) => new PlainInput(call(states));
}

/// <summary>Settings of a norm. Each kind of norm has a derived record, which creates it.</summary>
internal abstract record NormSettings
{
    /// <summary>Creates a norm.</summary>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the norm, without .weight.</param>
    /// <param name="features">Number of features that are normalized.</param>
    public abstract Norm Take(IWeightSource weights, string name, Dimension features);

    /// <summary>A norm of each head separately, each with its own weights from a source.</summary>
    /// <param name="weights">Where weights come from.</param>
    /// <param name="name">The norm's name, without .weight.</param>
    /// <param name="heads">The number of heads.</param>
    /// <param name="features">The width of a head.</param>
    public virtual Norm TakeHeads(IWeightSource weights, string name, Dimension heads, Dimension features) =>
        throw new NotSupportedException($"{name}: {GetType().Name} has no weights of its own for each head.");
}
