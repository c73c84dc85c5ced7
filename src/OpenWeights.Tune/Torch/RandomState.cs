using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Torch;

/// <summary>The random numbers that a piece of work draws (dropout), so that the same work can be done again.</summary>
internal sealed class RandomState
{
    private readonly byte[]? _cpu;
    private readonly long _seed;

    private RandomState(byte[]? cpu, long seed)
    {
        _cpu = cpu;
        _seed = seed;
    }

    /// <summary>Seeds every generator that the device's work draws from.</summary>
    internal static void Seed(long seed, Device device)
    {
        _ = manual_seed(seed);
        if (device.type == DeviceType.CUDA)
        {
            cuda.manual_seed_all(seed);
        }
    }

    /// <summary>Notes the state that work on the device starts from.</summary>
    internal static RandomState Note(Device device)
    {
        using var scope = NewDisposeScope();
        if (device.type == DeviceType.CPU)
        {
            return new RandomState(get_rng_state().bytes.ToArray(), 0);
        }

        // A GPU's state cannot be read through TorchSharp, so the work starts from a seed of its own.
        var seed = randint(0, long.MaxValue, [1]).ToInt64();
        cuda.manual_seed_all(seed);
        return new RandomState(null, seed);
    }

    /// <summary>
    /// Work begins that is not done again, though other settings might have it done again: it draws the same numbers then. A GPU's work
    /// always starts from a seed of its own.
    /// </summary>
    internal static void Begin(Device device)
    {
        if (device.type != DeviceType.CPU)
        {
            _ = Note(device);
        }
    }

    /// <summary>Notes what is to be gone on from after work was done again; null for a GPU, where whatever comes next has a seed of its own.</summary>
    internal static RandomState? BeforeAgain(Device device) => device.type == DeviceType.CPU ? Note(device) : null;

    /// <summary>Puts the state back, so that the same work draws the same numbers.</summary>
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
