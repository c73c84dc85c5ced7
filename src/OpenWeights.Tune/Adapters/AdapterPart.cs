using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>The part of an adapter that modifies one module.</summary>
internal abstract class AdapterPart : IDisposable
{
    private protected AdapterPart(string module) => Module = module;

    /// <summary>Name of the module, such as model.layers.0.self_attn.q_proj.</summary>
    public string Module { get; }

    /// <summary>The trained parameters by PEFT's names without its prefix, such as model.layers.0.self_attn.q_proj.lora_A.weight.</summary>
    public abstract IEnumerable<(string Name, Parameter Parameter)> Parameters { get; }

    /// <summary>Tensors of the base model that merging this part changes, such as model.layers.0.self_attn.q_proj.weight.</summary>
    public abstract IEnumerable<string> ChangedTensors { get; }

    /// <summary>Whether dropout is on.</summary>
    internal virtual bool Training
    {
        set
        {
        }
    }

    /// <summary>Whether the part is applied in the module's forward pass.</summary>
    internal abstract bool Enabled { get; set; }

    /// <summary>A tensor of the base model with this part merged in.</summary>
    /// <param name="tensor">One of <see cref="ChangedTensors"/>.</param>
    /// <param name="weight">The tensor's values, float32, on the CPU or the part's device.</param>
    /// <returns>New values, float32, on the device of <paramref name="weight"/>.</returns>
    public abstract Tensor Merged(string tensor, Tensor weight);

    /// <summary>One expert's part of a tensor of the base model, with this part merged in.</summary>
    /// <param name="tensor">One of <see cref="ChangedTensors"/> that holds a matrix of every expert.</param>
    /// <param name="expert">Index of the expert.</param>
    /// <param name="weight">The expert's values, float32.</param>
    internal virtual Tensor MergedExpert(string tensor, int expert, Tensor weight) => throw new NotSupportedException($"{tensor} holds no experts.");

    /// <summary>The tensors that a PEFT folder stores for this part; newly created ones belong to the caller's dispose scope.</summary>
    internal virtual IEnumerable<(string Name, Tensor Tensor)> FileTensors() => Parameters.Select(static p => (p.Name, (Tensor)p.Parameter));

    /// <summary>Loads the tensors of <see cref="FileTensors"/> back into the parameters.</summary>
    /// <param name="read">Reads a tensor by name, into the current dispose scope.</param>
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
