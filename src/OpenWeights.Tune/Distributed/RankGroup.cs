using static TorchSharp.torch;

namespace OpenWeights.Tune.Distributed;

/// <summary>All ranks of a run, as one of them sees them. A run of one process is a group of one rank, which communicates nothing.</summary>
internal sealed class RankGroup : IDisposable
{
    private readonly ICollectives? _collectives;
    private readonly IRankChannel? _channel;

    private RankGroup()
    {
    }

    /// <summary>A group of several ranks.</summary>
    /// <param name="collectives">Moves tensors; the group takes ownership.</param>
    /// <param name="channel">Moves texts; the group takes ownership.</param>
    internal RankGroup(ICollectives collectives, IRankChannel channel) => (_collectives, _channel, Rank, Size) = (collectives, channel, collectives.Rank, collectives.Size);

    /// <summary>The only rank of a run of one process.</summary>
    internal static RankGroup Alone { get; } = new();

    /// <summary>This rank, from 0.</summary>
    internal int Rank { get; }

    /// <summary>Number of ranks.</summary>
    internal int Size { get; } = 1;

    /// <summary>Whether this rank writes the files and the messages of the run.</summary>
    internal bool IsFirst => Rank == 0;

    /// <summary>Whether there is no other rank.</summary>
    internal bool IsAlone => Size == 1;

    /// <summary>The engine. Not for a group of one rank.</summary>
    internal ICollectives Collectives => _collectives ?? throw new InvalidOperationException("one rank has nothing to communicate with");

    /// <summary>Texts and failures. Not for a group of one rank.</summary>
    internal IRankChannel Channel => _channel ?? throw new InvalidOperationException("one rank has nothing to communicate with");

    /// <summary>What this rank does, so that the others find it when it is stuck; null where nobody asks.</summary>
    internal RankActivity? Activity => _channel?.Activity;

    /// <summary>Sums numbers over all ranks, in float64.</summary>
    /// <param name="values">This rank's numbers.</param>
    /// <param name="device">Device of the engine's tensors: the model's.</param>
    internal double[] Sum(ReadOnlySpan<double> values, Device device)
    {
        if (IsAlone)
        {
            return values.ToArray();
        }

        using var scope = NewDisposeScope();
        var sums = tensor(values.ToArray(), float64).to(device);
        Collectives.BeginAllReduceSum(sums).Wait();
        return [.. System.Runtime.InteropServices.MemoryMarshal.Cast<byte, double>(sums.cpu().bytes)];
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _collectives?.Dispose();
        _channel?.Dispose();
    }
}
