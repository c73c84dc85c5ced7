using OpenWeights.Tune.Models;
using OpenWeights.Tune.Optimizers;

namespace OpenWeights.Tune.Training.Memory;

/// <summary>What a run holds, in bytes, by where in the model it belongs.</summary>
/// <param name="Weights">Weights of the model, trained ones included.</param>
/// <param name="Adapter">Weights of the adapter.</param>
/// <param name="Gradients">Gradients of the trained parameters.</param>
/// <param name="Optimizer">State of the optimizer.</param>
/// <param name="Activations">Activations of a micro-batch.</param>
internal sealed record RunCosts(LayerBytes Weights, LayerBytes Adapter, LayerBytes Gradients, LayerBytes Optimizer, ActivationCosts Activations)
{
    /// <summary>Those of a run.</summary>
    /// <param name="trained">The model, with shapes alone.</param>
    /// <param name="optimizerBytes">Size of the optimizer's state of some parameters.</param>
    /// <param name="activations">Activations of a micro-batch.</param>
    internal static RunCosts Of(ITrainedModel trained, Func<IReadOnlyList<TrainedParameter>, long> optimizerBytes, ActivationCosts activations)
    {
        var config = trained.Model.Config;
        var gradients = LayerBytes.Sum(config, trained.Parameters.Select(static p => (p.Name, LayerBytes.Bytes(p.Parameter))));

        // Parameters of a layer in one go: the state of many small ones is measured once for each shape.
        var optimizer = trained.Parameters.GroupBy(p => LayerBytes.PlaceOf(config, p.Name)).ToDictionary(static g => g.Key, g => optimizerBytes([.. g]));
        return new RunCosts(
            LayerBytes.Of(trained.Model), trained.ResultName == "adapter" ? gradients : LayerBytes.Sum(config, []), gradients,
            new LayerBytes(optimizer.GetValueOrDefault(-1), [.. Enumerable.Range(0, config.LayerCount).Select(i => optimizer.GetValueOrDefault(i))], optimizer.GetValueOrDefault(config.LayerCount)), activations);
    }

    /// <summary>What is held from step to step.</summary>
    internal LayerBytes Held => Weights.Plus(Adapter).Plus(Gradients).Plus(Optimizer);
}
