using OpenWeights.Tune.Layers.Projections;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>A norm of the last dimension.</summary>
/// <param name="name">The name of the norm's type.</param>
public abstract class Norm(string name) : nn.Module<Tensor, Tensor>(name), IWeighted
{
    /// <inheritdoc/>
    public abstract IReadOnlyList<WeightSlot> Slots { get; }

    /// <summary>What layers read after the norm: states that are normalised again in backward where that can be done, else kept.</summary>
    /// <param name="states">[..., features].</param>
    internal virtual LayerInput Before(Tensor states) => new PlainInput(call(states));
}

/// <summary>How norms compute. A new kind of norm is a type derived from this and the norm that it takes.</summary>
public abstract record NormSettings
{
    /// <summary>A norm with its weights from a source.</summary>
    /// <param name="weights">Where weights come from.</param>
    /// <param name="name">The norm's name, without .weight.</param>
    /// <param name="features">The width of what is normalised.</param>
    public abstract Norm Take(IWeightSource weights, string name, Dimension features);

    /// <summary>A norm of each head separately, each with its own weights from a source.</summary>
    /// <param name="weights">Where weights come from.</param>
    /// <param name="name">The norm's name, without .weight.</param>
    /// <param name="heads">The number of heads.</param>
    /// <param name="features">The width of a head.</param>
    public virtual Norm TakeHeads(IWeightSource weights, string name, Dimension heads, Dimension features) =>
        throw new NotSupportedException($"{name}: {GetType().Name} has no weights of its own for each head.");
}
