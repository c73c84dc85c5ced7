using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives;

/// <summary>Weighted means over the micro-batches of a step. Values stay on their device until they are read together.</summary>
internal sealed class MetricMeans : IDisposable
{
    private readonly Dictionary<string, (List<Tensor> Sums, double Count)> _sums = [];

    /// <summary>Adds to a mean.</summary>
    /// <param name="name">Name of the metric.</param>
    /// <param name="values">Values to average, of any shape.</param>
    internal void Add(string name, Tensor values)
    {
        using var scope = NewDisposeScope();
        if (values.numel() == 0)
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
        var means = _sums.ToDictionary(static p => p.Key, static p => p.Value.Sums.Sum(static s => s.ToDouble()) / p.Value.Count);
        Dispose();
        return means;
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
