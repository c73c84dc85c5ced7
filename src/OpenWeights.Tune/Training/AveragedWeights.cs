using OpenWeights.Tune.Optimizers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>Puts the averaged weights of a run into its model, for an evaluation or as the result.</summary>
/// <param name="trained">The model.</param>
/// <param name="average">The averages; null if the last weights are evaluated and saved.</param>
internal sealed class AveragedWeights(ITrainedModel trained, IAveragedWeights? average)
{
    /// <summary>Puts them in until the returned object is disposed, which restores the trained weights exactly.</summary>
    internal IDisposable? Use()
    {
        if (average is null)
        {
            return null;
        }

        using var nothing = no_grad();
        Tensor[] kept = [.. trained.Parameters.Select(static p => p.Parameter.detach().clone().DetachFromDisposeScope())];
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
        for (var i = 0; i < trained.Parameters.Count; i++)
        {
            using var scope = NewDisposeScope();
            _ = trained.Parameters[i].Parameter.copy_(average.Averaged(i));
        }

        Forget();
    }

    // Values computed from the previous weights are discarded.
    private void Forget() => trained.Training = false;

    private sealed class Restoring(AveragedWeights owner, Tensor[] kept) : IDisposable
    {
        public void Dispose()
        {
            using var nothing = no_grad();
            foreach (var (parameter, values) in owner.Parameters.Zip(kept))
            {
                _ = parameter.Parameter.copy_(values);
                values.Dispose();
            }

            owner.Forget();
        }
    }

    private IReadOnlyList<TrainedParameter> Parameters => trained.Parameters;
}
