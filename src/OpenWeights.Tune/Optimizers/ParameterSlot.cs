using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>A trained parameter with its optimizer state.</summary>
internal sealed class ParameterSlot : IDisposable
{
    // bitsandbytes does not page the state of smaller parameters either.
    private const long LeastPaged = 100_000;

    private readonly StoredState[] _states;
    private Tensor[]? _open;

    internal ParameterSlot(TrainedParameter trained, int index, OptimizerMemory memory, Func<TrainedParameter, IEnumerable<StateShape>> states)
    {
        using var scope = NewDisposeScope();
        (Trained, Index) = (trained, index);
        var parameter = trained.Parameter;
        var (count, away) = (parameter.numel(), parameter.device_type is not (TorchSharp.DeviceType.CPU or TorchSharp.DeviceType.META));
        IsAway = memory.OnCpu && away;
        var home = IsAway ? CPU : parameter.device;
        var device = memory.IsPaged && away && count >= LeastPaged ? CPU : home;
        var isCoded = memory.CodedFrom > 0 && trained.Elements >= memory.CodedFrom;
        _states = [.. states(trained).Select(s => new StoredState(s, parameter.detach, device, home, isCoded && s.IsMoment))];
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
            Master = parameter.detach().to(float32, home, copy: true).DetachFromDisposeScope();
        }
    }

    /// <summary>The parameter.</summary>
    public TrainedParameter Trained { get; }

    /// <summary>Index of the parameter among those of the optimizer.</summary>
    public int Index { get; }

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

    /// <summary>A state tensor during an update, float32, in the optimizer's order.</summary>
    public Tensor this[int index] => _open is null ? _states[index].Values : _open[index];

    /// <summary>The state by name, for checkpoints.</summary>
    public IEnumerable<(string Name, Tensor State)> Named
    {
        get
        {
            foreach (var (name, tensor) in _states.SelectMany(static s => s.Named))
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

    /// <summary>The states as they are stored.</summary>
    internal IReadOnlyList<StoredState> Stored => _states;

    /// <summary>Whether some state is stored on another device than it is used.</summary>
    internal bool IsPaged => Array.Exists(_states, static s => s.IsPaged);

    private string MasterName => $"{Trained.Name}.master";

    private string RestName => $"{Trained.Name}.master_rest";

    /// <summary>Makes the state's values available, decoded and on their device, in the current dispose scope.</summary>
    internal void Open() => _open = [.. _states.Select(static s => s.Open())];

    /// <summary>Stores the values that an update changed.</summary>
    internal void Close()
    {
        foreach (var (state, values) in _states.Zip(_open!))
        {
            state.Close(values);
        }

        _open = null;
    }

    /// <summary>
    /// Restores a saved state, whichever way the float32 values were stored. The parameter must have been restored before.
    /// </summary>
    /// <param name="has">Whether a tensor of a given name exists.</param>
    /// <param name="read">Reads the tensor of a given name on the CPU, into the caller's dispose scope.</param>
    internal void Restore(Func<string, bool> has, Func<string, Tensor> read)
    {
        using var scope = NewDisposeScope();
        foreach (var (name, tensor) in _states.SelectMany(static s => s.Named))
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
        Array.ForEach(_states, static s => s.Dispose());
        Master?.Dispose();
        MasterRest?.Dispose();
    }
}
