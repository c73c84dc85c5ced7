using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>Measures the gradient of the loss with respect to each layer's weight, averaged over the batches.</summary>
internal static class GradientPass
{
    /// <summary>Gradients, [out, in], in no dispose scope.</summary>
    /// <param name="model">The model.</param>
    /// <param name="layers">The layers.</param>
    /// <param name="data">Training data.</param>
    internal static IReadOnlyDictionary<string, Tensor> Run(CausalLanguageModel model, IReadOnlyList<(string Name, LinearLayer Layer)> layers, StartData data)
    {
        if (layers.FirstOrDefault(static l => l.Layer.Quantized is not null).Name is { } quantized)
        {
            throw new InvalidDataException($"init_lora_weights: lora_ga needs the gradient of {quantized}, which is quantized; remove the quantization section, or use another start.");
        }

        using var recorded = enable_grad();
        var weights = layers.Select(static l => l.Layer.Weight).DistinctBy(static w => w, ReferenceEqualityComparer.Instance).ToList();
        var before = model.parameters().Select(static p => (Parameter: p, p.requires_grad)).ToList();
        before.ForEach(static p => p.Parameter.requires_grad_(false));
        weights.ForEach(static w => w.requires_grad_(true));
        try
        {
            for (var i = 0; i < data.Count; i++)
            {
                using var scope = NewDisposeScope();
                data.Batch(i).Loss(model).backward();
            }

            using var nothing = no_grad();
            using var outer = NewDisposeScope();
            var found = new Dictionary<string, Tensor>();
            foreach (var same in layers.GroupBy<(string Name, LinearLayer Layer), Parameter>(static l => l.Layer.Weight, ReferenceEqualityComparer.Instance))
            {
                foreach (var (name, layer) in same)
                {
                    using var inner = NewDisposeScope();
                    found[name] = outer.Detach((layer.Weight.grad ?? zeros_like(layer.Weight)).to(float32).div(data.Count).MoveToOuterDisposeScope());
                }

                // There is no second copy of all gradients.
                same.Key.grad = null;
            }

            return found;
        }
        finally
        {
            weights.ForEach(static w => w.grad = null);
            before.ForEach(static p => p.Parameter.requires_grad_(p.requires_grad));
        }
    }
}
