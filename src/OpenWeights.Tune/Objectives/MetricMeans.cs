using System.Runtime.InteropServices;
using System.Text;
using OpenWeights.Tune.Distributed;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives;

/// <summary>Weighted means over the micro-batches of a step, those of all ranks. Values stay on their device until they are read together.</summary>
internal sealed class MetricMeans : IDisposable
{
    private readonly Dictionary<string, (List<Tensor> Sums, double Count)> _sums = [];
    [ThreadStatic]
    private static bool t_isOff;

    private RankGroup _ranks = RankGroup.Alone;
    private Device _device = CPU;

    /// <summary>Whether this thread computes what does not count.</summary>
    internal static bool IsOff => t_isOff;

    /// <summary>Makes the means those of several ranks, which all take them at the same time.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="device">Device of the model.</param>
    internal void Join(RankGroup ranks, Device device) => (_ranks, _device) = (ranks, device);

    /// <summary>Computes what does not count: nothing that this thread adds meanwhile is taken.</summary>
    /// <param name="work">The work.</param>
    internal static void Without(Action work)
    {
        t_isOff = true;
        try
        {
            work();
        }
        finally
        {
            t_isOff = false;
        }
    }

    /// <summary>Adds to a mean.</summary>
    /// <param name="name">Name of the metric.</param>
    /// <param name="values">Values to average, of any shape.</param>
    internal void Add(string name, Tensor values)
    {
        using var scope = NewDisposeScope();
        if (t_isOff || values.numel() == 0)
        {
            return;
        }

        var sum = values.detach().sum(type: float64).DetachFromDisposeScope();
        ref var entry = ref CollectionsMarshal.GetValueRefOrAddDefault(_sums, name, out _);
        entry.Sums ??= [];
        entry.Sums.Add(sum);
        entry.Count += values.numel();
    }

    /// <summary>The means, and clears them.</summary>
    internal Dictionary<string, double> Take()
    {
        using var scope = NewDisposeScope();
        var own = _sums.ToDictionary(static p => p.Key, static p => (Sum: p.Value.Sums.Sum(static s => s.ToDouble()), p.Value.Count));
        Dispose();
        if (_ranks.IsAlone)
        {
            return own.ToDictionary(static p => p.Key, static p => p.Value.Sum / p.Value.Count);
        }

        // A rank without some rows has not all of the metrics.
        var all = _ranks.Gather(Write(own), _device).SelectMany(Read).ToList();
        return all.Select(static m => m.Name).Distinct().ToDictionary(static n => n, n => all.Where(m => m.Name == n).Sum(static m => m.Sum) / all.Where(m => m.Name == n).Sum(static m => m.Count));
    }

    private static byte[] Write(Dictionary<string, (double Sum, double Count)> sums)
    {
        using var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream, Encoding.UTF8);
        writer.Write(sums.Count);
        foreach (var (name, (sum, count)) in sums)
        {
            writer.Write(name);
            writer.Write(sum);
            writer.Write(count);
        }

        writer.Flush();
        return stream.ToArray();
    }

    private static List<(string Name, double Sum, double Count)> Read(byte[] bytes)
    {
        using var reader = new BinaryReader(new MemoryStream(bytes), Encoding.UTF8);
        return [.. Enumerable.Range(0, reader.ReadInt32()).Select(_ => (reader.ReadString(), reader.ReadDouble(), reader.ReadDouble()))];
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var (sums, _) in _sums.Values)
        {
            sums.ForEach(static s => s.Dispose());
        }

        _sums.Clear();
    }
}
