using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>A module that is adapted, and where its tensors come from.</summary>
/// <param name="Module">Name of the module, such as model.layers.0.self_attn.q_proj.</param>
/// <param name="Target">The module.</param>
/// <param name="Tensors">Source of the tensors.</param>
internal sealed record ModuleSite(string Module, nn.Module Target, AdapterTensors Tensors)
{
    /// <summary>All linear layers that the adapter adapts.</summary>
    internal required IReadOnlyList<LinearLayer> Adapted { get; init; }

    /// <summary>The largest numbers of outputs and of inputs among them.</summary>
    internal (long Outputs, long Inputs) Largest => (Adapted.Max(static l => l.OutFeatures), Adapted.Max(static l => l.InFeatures));

    /// <summary>A trained parameter of the module, float32.</summary>
    /// <param name="name">Its name within the module, such as hada_w1_a.</param>
    /// <param name="fill">Initial values.</param>
    /// <param name="shape">Its shape.</param>
    internal Parameter Trained(string name, Fill fill, params long[] shape) => new(Tensors.Take($"{Module}.{name}", fill, shape));

    /// <summary>The shape of a tensor of the module in the file; null if there is none.</summary>
    /// <param name="name">Its name within the module.</param>
    internal IReadOnlyList<long>? Stored(string name) => Tensors.StoredShape($"{Module}.{name}");
}

/// <summary>The tensors of a module in an adapter's file.</summary>
/// <param name="Name">Name of the module.</param>
/// <param name="Names">Names of the tensors within the module.</param>
/// <param name="Read">Reads one of them, into the current dispose scope.</param>
internal sealed record StoredModule(string Name, IReadOnlyList<string> Names, Func<string, Tensor> Read)
{
    /// <summary>Whether a tensor is zero everywhere.</summary>
    internal bool IsZero(string name) => Is(name, 0);

    /// <summary>Whether a tensor is one everywhere.</summary>
    internal bool IsOne(string name) => Is(name, 1);

    private bool Is(string name, double value)
    {
        using var scope = NewDisposeScope();
        using Scalar wanted = value;
        return Names.Contains(name) && Read(name).eq(wanted).all().ToBoolean();
    }
}
