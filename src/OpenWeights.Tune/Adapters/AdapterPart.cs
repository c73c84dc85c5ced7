using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>What an adapter does to one module.</summary>
public abstract class AdapterPart : IDisposable
{
    private protected AdapterPart(string module) => Module = module;

    /// <summary>The module's name, such as model.layers.0.self_attn.q_proj.</summary>
    public string Module { get; }

    /// <summary>What is trained, by PEFT's names without its prefix, such as model.layers.0.self_attn.q_proj.lora_A.weight.</summary>
    public abstract IEnumerable<(string Name, Parameter Parameter)> Parameters { get; }

    /// <summary>The base's tensors that this changes, such as model.layers.0.self_attn.q_proj.weight.</summary>
    public abstract IEnumerable<string> ChangedTensors { get; }

    /// <summary>Whether dropout is on.</summary>
    internal virtual bool Training
    {
        set
        {
        }
    }

    /// <summary>Whether the module computes with this part.</summary>
    internal abstract bool Enabled { get; set; }

    /// <summary>A tensor of the base with this part merged in.</summary>
    /// <param name="tensor">One of <see cref="ChangedTensors"/>.</param>
    /// <param name="weight">The tensor's values, float32, on the CPU or the part's device.</param>
    /// <returns>New values, float32, on the device of <paramref name="weight"/>.</returns>
    public abstract Tensor Merged(string tensor, Tensor weight);

    /// <summary>What a PEFT folder holds of this part; tensors that are made for it are in the caller's dispose scope.</summary>
    internal virtual IEnumerable<(string Name, Tensor Tensor)> FileTensors() => Parameters.Select(static p => (p.Name, (Tensor)p.Parameter));

    /// <summary>Reads back what <see cref="FileTensors"/> gave, into the same parameters.</summary>
    /// <param name="read">Reads a tensor by its name, into the dispose scope that is open.</param>
    internal virtual void Restore(Func<string, Tensor> read)
    {
        foreach (var (name, parameter) in Parameters)
        {
            using var scope = NewDisposeScope();
            _ = parameter.copy_(read(name));
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    private protected abstract void Dispose(bool disposing);
}
