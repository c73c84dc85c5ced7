using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>The base model as reference: the adapter is off while it computes.</summary>
internal sealed class AdapterOffReference(PeftAdapter adapter) : IReferencePolicy
{
    /// <inheritdoc/>
    public T Run<T>(Func<CausalLanguageModel, T> compute)
    {
        adapter.Enabled = false;
        try
        {
            return compute(adapter.Base);
        }
        finally
        {
            adapter.Enabled = true;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
    }
}

/// <summary>Another model, or the same one before training, as reference; its weights are never changed.</summary>
internal sealed class ModelReference(LoadedModel loaded) : IReferencePolicy
{
    /// <inheritdoc/>
    public T Run<T>(Func<CausalLanguageModel, T> compute) => compute(loaded.Model);

    /// <inheritdoc/>
    public void Dispose() => loaded.Dispose();
}

/// <summary>
/// The adapter's weights at the start as reference, for an adapter that is trained further: they are exchanged with the current ones while the
/// reference computes.
/// </summary>
internal sealed class AdapterStartReference : IReferencePolicy
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
