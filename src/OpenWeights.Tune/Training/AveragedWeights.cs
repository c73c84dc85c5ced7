using OpenWeights.Tune.Optimizers;
using OpenWeights.Tune.Training.Ranks;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>Puts the averaged weights of a run into its model, for an evaluation or as the result.</summary>
/// <param name="trained">The model.</param>
/// <param name="shards">What ranks have of the weights, and of their averages.</param>
/// <param name="average">The averages; null if the last weights are evaluated and saved.</param>
internal sealed class AveragedWeights(ITrainedModel trained, IShardStrategy shards, IAveragedWeights? average)
{
    /// <summary>Puts them in until the returned object is disposed, which restores the trained weights exactly.</summary>
    internal IDisposable? Use()
    {
        if (average is null)
        {
            return null;
        }

        using var nothing = no_grad();
        Tensor[] kept = [.. shards.Averaged.Select(static p => p.Parameter.detach().clone().DetachFromDisposeScope())];
        Put();
        return new Restoring(this, kept);
    }

    /// <summary>Puts them in for good.</summary>
    internal void Put()
    {
        if (average is null)
        {
            return;
        }

        using var nothing = no_grad();
        foreach (var (i, averaged) in shards.Averaged.Index())
        {
            using var scope = NewDisposeScope();
            _ = averaged.Parameter.copy_(average.Averaged(i));
        }

        Changed();
    }

    // Values computed from the previous weights are discarded.
    private void Changed()
    {
        shards.Changed();
        trained.Training = false;
    }

    private sealed class Restoring(AveragedWeights owner, Tensor[] kept) : IDisposable
    {
        public void Dispose()
        {
            using var nothing = no_grad();
            foreach (var (parameter, values) in owner.Weights.Zip(kept))
            {
                _ = parameter.Parameter.copy_(values);
                values.Dispose();
            }

            owner.Changed();
        }
    }

    private IReadOnlyList<TrainedParameter> Weights => shards.Averaged;
}
