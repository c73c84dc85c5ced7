using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>A trained parameter with what an optimizer remembers of it.</summary>
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

    /// <summary>Whether state and steps are on the CPU and the parameter is not.</summary>
    public bool IsAway { get; }

    /// <summary>The float32 copy that the steps are taken on, or null where there is none.</summary>
    public Tensor? Master { get; }

    /// <summary>
    /// What makes a bfloat16 parameter on the CPU the float32 numbers that the steps are taken on, int16: their lower bits, so that nothing is
    /// held twice. Null where there is a copy, or none is wanted.
    /// </summary>
    public Tensor? MasterRest { get; }

    /// <summary>The number of state tensors.</summary>
    public int StateCount => _states.Length;

    /// <summary>A state tensor, in the order in which the optimizer made them.</summary>
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

    /// <summary>Takes over a state that was saved, whichever way float32 numbers were held then. The parameter is restored before.</summary>
    /// <param name="has">Whether there is a tensor of a name.</param>
    /// <param name="read">The tensor of a name, on the CPU, in the caller's dispose scope.</param>
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
