using TorchSharp.Modules;

namespace OpenWeights.Tune.Layers;

/// <summary>A weight of a module, and what an adapter may put in its place. The module's own weight never changes by it.</summary>
public sealed class WeightSlot
{
    /// <summary>A slot of a module.</summary>
    /// <param name="name">weight or bias.</param>
    /// <param name="own">The module's own weight; null where it is held quantised.</param>
    internal WeightSlot(string name, Parameter? own)
    {
        Name = name;
        Own = own;
    }

    /// <summary>The weight's name within the module: weight or bias.</summary>
    public string Name { get; }

    /// <summary>The module's own weight; null where it is held quantised.</summary>
    public Parameter? Own { get; }

    /// <summary>What is computed with instead; null for the module's own.</summary>
    public Parameter? Replacement { get; set; }

    /// <summary>What is computed with; null where that is the quantised weight.</summary>
    public Parameter? Current => Replacement ?? Own;
}

/// <summary>A module with weights of its own, each of which an adapter may put another in place of.</summary>
public interface IWeighted
{
    /// <summary>The weights, in the order of the module's names.</summary>
    IReadOnlyList<WeightSlot> Slots { get; }
}
