using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Optimizers;

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
        Master = memory.LowPrecision == LowPrecision.MasterWeights && parameter.dtype != float32 ? parameter.detach().to(float32, device, copy: true).DetachFromDisposeScope() : null;
    }

    /// <summary>The parameter.</summary>
    public TrainedParameter Trained { get; }

    /// <summary>Whether state and steps are on the CPU and the parameter is not.</summary>
    public bool IsAway { get; }

    /// <summary>The float32 copy that the steps are taken on, or null where the parameter itself is stepped.</summary>
    public Tensor? Master { get; }

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
                yield return ($"{Trained.Name}.master", Master);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Array.ForEach(_states, static s => s.Tensor.Dispose());
        Master?.Dispose();
    }
}
