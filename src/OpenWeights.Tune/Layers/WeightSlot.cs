using TorchSharp.Modules;

namespace OpenWeights.Tune.Layers;

/// <summary>A weight of a module, which an adapter may replace. The module's own weight is never changed.</summary>
internal sealed class WeightSlot
{
    /// <summary>Creates a slot of a module.</summary>
    /// <param name="name">weight or bias.</param>
    /// <param name="own">The module's own weight; null if it is quantized.</param>
    internal WeightSlot(string name, Parameter? own)
    {
        Name = name;
        Own = own;
    }

    /// <summary>Name of the weight within the module: weight or bias.</summary>
    public string Name { get; }

    /// <summary>The module's own weight; null if it is quantized.</summary>
    public Parameter? Own { get; }

    /// <summary>The replacement; null to use the module's own weight.</summary>
    public Parameter? Replacement { get; set; }

    /// <summary>The weight in use; null if the quantized weight is in use.</summary>
    public Parameter? Current => Replacement ?? Own;
}

/// <summary>A module with weights that adapters may replace.</summary>
internal interface IWeighted
{
    /// <summary>The weights, in order of the module's names.</summary>
    IReadOnlyList<WeightSlot> Slots { get; }
}
