using OpenWeights.Tune.Models;
using OpenWeights.Tune.Optimizers;

namespace OpenWeights.Tune.Training;

/// <summary>A model and what of it is trained: an adapter, or all of its weights.</summary>
public interface ITrainedModel : IDisposable
{
    /// <summary>The model, with its adapter on.</summary>
    CausalLanguageModel Model { get; }

    /// <summary>What is trained.</summary>
    IReadOnlyList<TrainedParameter> Parameters { get; }

    /// <summary>The name of the result's folder in the run's folder: adapter or model.</summary>
    string ResultName { get; }

    /// <summary>Turns dropout on or off.</summary>
    bool Training { set; }

    /// <summary>Writes the trained weights for going on or for use.</summary>
    /// <param name="folder">The folder; it is made where it is missing.</param>
    void Save(string folder);

    /// <summary>Reads back what <see cref="Save"/> wrote, into the same parameters.</summary>
    /// <param name="folder">The folder.</param>
    void Restore(string folder);
}
