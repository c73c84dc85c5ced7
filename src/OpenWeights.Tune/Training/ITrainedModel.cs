using OpenWeights.Tune.Models;
using OpenWeights.Tune.Optimizers;

namespace OpenWeights.Tune.Training;

/// <summary>A model with its trained parameters: an adapter, or the model's own weights.</summary>
internal interface ITrainedModel : IDisposable
{
    /// <summary>The model, with its adapter.</summary>
    CausalLanguageModel Model { get; }

    /// <summary>The trained parameters.</summary>
    IReadOnlyList<TrainedParameter> Parameters { get; }

    /// <summary>Whether ranks share out the weights that are trained.</summary>
    internal bool IsShared => Model.Stack.LayerWeights is not null && ResultName != "adapter";

    /// <summary>The trained weights that each rank has whole: all, unless ranks share out the weights of the layers, which are never copied from the first.</summary>
    internal IEnumerable<TorchSharp.torch.Tensor> WholeWeights => !IsShared ? Parameters.Select(static p => p.Parameter) : [];

    /// <summary>Name of the result's folder in the run folder: adapter or model.</summary>
    string ResultName { get; }

    /// <summary>Turns dropout on or off.</summary>
    bool Training { set; }

    /// <summary>A loss of the parameters themselves, which is added to that of the rows; null for none. In the current dispose scope.</summary>
    TorchSharp.torch.Tensor? Penalty() => null;

    /// <summary>Called after each step of the optimizer, while the gradients are there.</summary>
    /// <param name="step">The step, counted from 0.</param>
    /// <param name="steps">Number of steps of the run.</param>
    void Stepped(long step, long steps)
    {
    }

    /// <summary>Saves the trained weights.</summary>
    /// <param name="folder">The folder; created if missing.</param>
    void Save(string folder);

    /// <summary>Loads what <see cref="Save"/> wrote into the same parameters.</summary>
    /// <param name="folder">The folder.</param>
    void Restore(string folder);
}
