using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Torch;

/// <summary>The random number state (dropout) of a computation, so that it can be repeated with the same numbers.</summary>
internal sealed class RandomState
{
    private readonly byte[]? _cpu;
    private readonly long _seed;

    private RandomState(byte[]? cpu, long seed)
    {
        _cpu = cpu;
        _seed = seed;
    }

    /// <summary>Seeds all generators that a device uses.</summary>
    internal static void Seed(long seed, Device device)
    {
        _ = manual_seed(seed);
        if (device.type == DeviceType.CUDA)
        {
            cuda.manual_seed_all(seed);
        }
    }

    /// <summary>Captures the state at the start of a computation.</summary>
    internal static RandomState Note(Device device)
    {
        using var scope = NewDisposeScope();
        if (device.type == DeviceType.CPU)
        {
            return new RandomState(get_rng_state().bytes.ToArray(), 0);
        }

        // A GPU's state cannot be read through TorchSharp, so the computation starts from its own seed.
        var seed = randint(0, long.MaxValue, [1]).ToInt64();
        cuda.manual_seed_all(seed);
        return new RandomState(null, seed);
    }

    /// <summary>
    /// Starts a computation that will not be repeated but must draw the same numbers as one that could be. A GPU's
    /// computation always starts from its own seed.
    /// </summary>
    internal static void Begin(Device device)
    {
        if (device.type != DeviceType.CPU)
        {
            _ = Note(device);
        }
    }

    /// <summary>
    /// Captures the state to continue from after a repeated computation; null for a GPU, where the next computation has its own seed.
    /// </summary>
    internal static RandomState? BeforeAgain(Device device) => device.type == DeviceType.CPU ? Note(device) : null;

    /// <summary>Restores the state, so that a repeated computation draws the same numbers.</summary>
    internal void Restore()
    {
        if (_cpu is null)
        {
            cuda.manual_seed_all(_seed);
            return;
        }

        using var state = tensor(_cpu);
        set_rng_state(state);
    }
}
