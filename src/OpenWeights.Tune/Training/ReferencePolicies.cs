using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Objectives.Stored;

namespace OpenWeights.Tune.Training;

/// <summary>Finds the model that a run compares its policy with: objective.reference or objective.teacher.</summary>
internal static class ReferencePolicies
{
    /// <summary>Creates the reference.</summary>
    /// <param name="draft">The run.</param>
    /// <param name="trained">The model that is trained, before its first step.</param>
    /// <param name="listener">Receives the run's events.</param>
    /// <exception cref="InvalidDataException">The reference cannot be loaded, or has another vocabulary.</exception>
    internal static IReferencePolicy Create(RunDraft draft, ITrainedModel trained, IRunListener listener)
    {
        var (dtype, devices) = (trained.Model.DType, trained.Model.Devices);
        draft.Precompute(listener);
        if (draft.LogProbs is { } stored)
        {
            return new StoredReference(stored.Open(), stored.IsTemporary ? stored.Path : null, () => draft.Compared!.Load(dtype, devices));
        }

        return Live(draft.Config, draft.Compared!, trained, listener);
    }

    /// <summary>Creates a reference that computes while training.</summary>
    /// <param name="config">The run.</param>
    /// <param name="modelPath">Folder of the base model.</param>
    /// <param name="trained">The model that is trained, before its first step.</param>
    internal static IReferencePolicy Create(RunConfig config, string modelPath, ITrainedModel trained) => Live(config, ComparedModel.Of(config, modelPath), trained, null);

    private static IReferencePolicy Live(RunConfig config, ComparedModel compared, ITrainedModel trained, IRunListener? listener) => (config.Objective, trained) switch
    {
        ({ Type: not "distill", Reference: "base" }, AdapterTraining adapter) => new AdapterOffReference(adapter.Adapter),

        // A new adapter changes nothing at the start.
        ({ Type: not "distill", Reference: "start" }, AdapterTraining adapter) =>
            config is { Adapter.Path: null, Objective.SyncRefModel: false } ? new AdapterOffReference(adapter.Adapter) : new AdapterStartReference(adapter.Adapter),
        _ => Loaded(config, compared, trained, listener),
    };

    private static ModelReference Loaded(RunConfig config, ComparedModel compared, ITrainedModel trained, IRunListener? listener)
    {
        var reference = Load(compared, trained.Model, listener);
        (reference.Followed, reference.Policy) = (config.Objective.SyncRefModel ? trained.Parameters : [], trained.Model);
        return reference;
    }

    private static ModelReference Load(ComparedModel compared, CausalLanguageModel policy, IRunListener? listener)
    {
        listener?.Stage($"reading the {(compared.Setting == "objective.teacher" ? "teacher" : "reference")}");
        var loaded = compared.Load(policy.DType, policy.Devices);
        var size = loaded.VocabularySize;
        if (compared.Setting != "objective.teacher" && size != policy.Config.VocabularySize)
        {
            loaded.Dispose();
            throw new InvalidDataException($"objective.reference: {compared.Folder} has a vocabulary of {size} tokens, and the trained model one of {policy.Config.VocabularySize}; a reference must have the same.");
        }

        return loaded;
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

/// <summary>Log-probabilities of a reference that were computed before; for rows that have none, the model is loaded.</summary>
/// <param name="store">The log-probabilities; the reference takes ownership.</param>
/// <param name="temporary">A file to delete at the end; null for none.</param>
/// <param name="load">Loads the model.</param>
internal sealed class StoredReference(LogProbStore store, string? temporary, Func<IReferencePolicy> load) : IReferencePolicy
{
    private readonly Lazy<IReferencePolicy> _model = new(load);

    /// <inheritdoc/>
    LogProbStore IReferencePolicy.Stored => store;

    /// <inheritdoc/>
    public T Run<T>(Func<CausalLanguageModel, T> compute) => _model.Value.Run(compute);

    /// <inheritdoc/>
    public void Dispose()
    {
        store.Dispose();
        if (temporary is not null)
        {
            File.Delete(temporary);
        }

        if (_model.IsValueCreated)
        {
            _model.Value.Dispose();
        }
    }
}
