using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>
/// The adapter's weights at the start as reference, for an adapter that is trained further, or that the reference follows: they are exchanged with
/// the current ones while the reference computes.
/// </summary>
internal sealed class AdapterStartReference : IFollowingReference
{
    private readonly PeftAdapter _adapter;
    private readonly List<Tensor> _start;

    /// <summary>Keeps a copy of an adapter's weights.</summary>
    internal AdapterStartReference(PeftAdapter adapter)
    {
        _adapter = adapter;
        _start = [.. adapter.Parameters.Select(static p => p.Parameter.detach().clone().DetachFromDisposeScope())];
    }

    /// <inheritdoc/>
    public IReadOnlyList<(string Name, Tensor State)> State => [.. _adapter.Parameters.Zip(_start, static (p, start) => (p.Name, start))];

    /// <inheritdoc/>
    public T Run<T>(Func<CausalLanguageModel, T> compute)
    {
        Exchange();
        try
        {
            return compute(_adapter.Base);
        }
        finally
        {
            Exchange();
        }
    }

    /// <inheritdoc/>
    public void Follow(double share)
    {
        foreach (var ((_, parameter), start) in _adapter.Parameters.Zip(_start))
        {
            FollowingReferences.Mix(start, parameter, share);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _start.ForEach(static t => t.Dispose());

    private void Exchange()
    {
        using var nothing = no_grad();
        foreach (var ((_, parameter), start) in _adapter.Parameters.Zip(_start))
        {
            using var current = parameter.detach().clone();
            _ = parameter.copy_(start);
            _ = start.copy_(current);
        }

        // Values computed from other weights are discarded.
        _adapter.Training = false;
    }
}
