using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>Finds the reference of a run: objective.reference.</summary>
internal static class ReferencePolicies
{
    /// <summary>Creates the reference.</summary>
    /// <param name="config">The run.</param>
    /// <param name="modelPath">Folder of the base model.</param>
    /// <param name="trained">The model that is trained, before its first step.</param>
    /// <exception cref="InvalidDataException">The reference cannot be loaded, or has another vocabulary.</exception>
    internal static IReferencePolicy Create(RunConfig config, string modelPath, ITrainedModel trained)
    {
        var reference = config.Objective.Reference;
        return (reference, trained) switch
        {
            ("base", AdapterTraining adapter) => new AdapterOffReference(adapter.Adapter),

            // A new adapter changes nothing at the start.
            ("start", AdapterTraining adapter) => config.Adapter!.Path is null ? new AdapterOffReference(adapter.Adapter) : new AdapterStartReference(adapter.Adapter),
            ("base" or "start", _) => Load(modelPath, config, trained.Model),
            _ => Load(ModelPath.Resolve(reference), config, trained.Model),
        };
    }

    private static ModelReference Load(string path, RunConfig config, CausalLanguageModel policy)
    {
        var loaded = ModelLoader.Load(path, Devices.DType(config.Model.Dtype) ?? policy.DType, policy.Device);
        if (loaded.Model.Config.VocabularySize != policy.Config.VocabularySize)
        {
            var size = loaded.Model.Config.VocabularySize;
            loaded.Dispose();
            throw new InvalidDataException($"objective.reference: {path} has a vocabulary of {size} tokens, and the trained model one of {policy.Config.VocabularySize}; a reference must have the same.");
        }

        return new ModelReference(loaded);
    }
}

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
