using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>A trained parameter with its optimizer state.</summary>
public sealed class ParameterSlot : IDisposable
{
    private readonly (string Name, Tensor Tensor)[] _states;

    internal ParameterSlot(TrainedParameter trained, OptimizerMemory memory, Func<Tensor, IEnumerable<(string Name, Tensor Tensor)>> states)
    {
        using var scope = NewDisposeScope();
        Trained = trained;
        var parameter = trained.Parameter;
        IsAway = memory.OnCpu && parameter.device_type != DeviceType.CPU;
        var device = IsAway ? CPU : parameter.device;
        var like = IsAway ? empty(parameter.shape, parameter.dtype, CPU) : parameter;
        _states = [.. states(like).Select(static s => (s.Name, s.Tensor.DetachFromDisposeScope()))];
        if (memory.LowPrecision != LowPrecision.MasterWeights || parameter.dtype == float32)
        {
            return;
        }

        if (!IsAway && parameter.dtype == bfloat16 && CpuKernel.Serves(parameter))
        {
            MasterRest = zeros(parameter.shape, int16).DetachFromDisposeScope();
        }
        else
        {
            Master = parameter.detach().to(float32, device, copy: true).DetachFromDisposeScope();
        }
    }

    /// <summary>The parameter.</summary>
    public TrainedParameter Trained { get; }

    /// <summary>Whether state and steps are on the CPU while the parameter is on another device.</summary>
    public bool IsAway { get; }

    /// <summary>Float32 master copy that is updated, or null.</summary>
    public Tensor? Master { get; }

    /// <summary>
    /// Lower 16 bits, int16, that extend a bfloat16 parameter on the CPU to the float32 value that is updated, so that nothing is stored
    /// twice. Null if there is a master copy, or none is needed.
    /// </summary>
    public Tensor? MasterRest { get; }

    /// <summary>Number of state tensors.</summary>
    public int StateCount => _states.Length;

    /// <summary>A state tensor, in the optimizer's order of creation.</summary>
    public Tensor this[int index] => _states[index].Tensor;

    /// <summary>The state by name, for checkpoints.</summary>
    public IEnumerable<(string Name, Tensor State)> Named
    {
        get
        {
            foreach (var (name, tensor) in _states)
            {
                yield return ($"{Trained.Name}.{name}", tensor);
            }

            if (Master is not null)
            {
                yield return (MasterName, Master);
            }

            if (MasterRest is not null)
            {
                yield return (RestName, MasterRest);
            }
        }
    }

    private string MasterName => $"{Trained.Name}.master";

    private string RestName => $"{Trained.Name}.master_rest";

    /// <summary>
    /// Restores a saved state, whichever way the float32 values were stored. The parameter must have been restored before.
    /// </summary>
    /// <param name="has">Whether a tensor of a given name exists.</param>
    /// <param name="read">Reads the tensor of a given name on the CPU, into the caller's dispose scope.</param>
    internal void Restore(Func<string, bool> has, Func<string, Tensor> read)
    {
        using var scope = NewDisposeScope();
        foreach (var (name, tensor) in _states)
        {
            _ = tensor.copy_(read($"{Trained.Name}.{name}"));
        }

        if (MasterRest is not null && !has(RestName))
        {
            SplitFloat.Split(read(MasterName).contiguous(), Trained.Parameter, MasterRest);
        }
        else if (MasterRest is not null)
        {
            _ = MasterRest.copy_(read(RestName));
        }
        else if (Master is not null)
        {
            _ = Master.copy_(has(MasterName) ? read(MasterName) : SplitFloat.Merge(Trained.Parameter.detach().cpu().contiguous(), read(RestName).contiguous()));
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Array.ForEach(_states, static s => s.Tensor.Dispose());
        Master?.Dispose();
        MasterRest?.Dispose();
    }
}
