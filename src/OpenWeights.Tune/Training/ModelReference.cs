using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Optimizers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>Another model, or the same one before training, as reference; its weights change only where it follows the policy.</summary>
/// <param name="loaded">The model; the reference takes ownership.</param>
/// <param name="adapter">An adapter on it; null for none.</param>
internal sealed class ModelReference(LoadedModel loaded, PeftAdapter? adapter = null) : IFollowingReference
{
    /// <summary>The policy's parameters that it follows; those of the same names are its own.</summary>
    internal IReadOnlyList<TrainedParameter> Followed { get; set; } = [];

    /// <summary>The policy, where ranks share out its weights.</summary>
    internal CausalLanguageModel? Policy { get; set; }

    /// <summary>Number of tokens that the model knows.</summary>
    internal int VocabularySize => loaded.Model.Config.VocabularySize;

    /// <inheritdoc/>
    public IReadOnlyList<(string Name, Tensor State)> State
    {
        get
        {
            var own = loaded.Model.named_parameters().ToDictionary(static p => p.name, static p => p.parameter);
            return [.. Followed.Select(p => (p.Name, (Tensor)own[p.Name]))];
        }
    }

    /// <inheritdoc/>
    public T Run<T>(Func<CausalLanguageModel, T> compute) => compute(loaded.Model);

    /// <inheritdoc/>
    public void Follow(double share)
    {
        foreach (var (policy, (_, own)) in Followed.Zip(State))
        {
            Policy?.Stack.LayerWeights?.Show(policy.Name);
            FollowingReferences.Mix(own, policy.Parameter, share);
        }

        Policy?.Stack.LayerWeights?.Show(null);

        // Values computed from other weights are discarded.
        loaded.Model.train(false);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        adapter?.Dispose();
        loaded.Dispose();
    }
}
