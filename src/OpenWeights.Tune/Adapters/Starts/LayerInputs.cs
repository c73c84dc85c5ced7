using System.Security.Cryptography;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>Shows what linear layers receive in a forward pass of the base model.</summary>
internal static class LayerInputs
{
    /// <summary>Runs a batch through the model without gradients, and shows the inputs of some layers.</summary>
    /// <param name="model">The model.</param>
    /// <param name="batch">The batch.</param>
    /// <param name="layers">The layers.</param>
    /// <param name="see">Receives a layer's name and its input, [tokens, in], padding included.</param>
    internal static void Show(CausalLanguageModel model, StartBatch batch, IReadOnlyCollection<(string Name, LinearLayer Layer)> layers, Action<string, Tensor> see)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        try
        {
            foreach (var (name, layer) in layers)
            {
                layer.Adapter = new Observer(states =>
                {
                    var rows = states.reshape(-1, states.size(-1));
                    if (rows.size(0) != batch.Input.InputIds.numel())
                    {
                        throw new InvalidDataException($"init_lora_weights: {name} does not see every token, so that its inputs cannot be measured; leave it out of target_modules, or use another start.");
                    }

                    see(name, rows);
                });
            }

            var hidden = model.call(batch.Input);
            if (layers.Any(l => ReferenceEquals(l.Layer, model.Head)))
            {
                _ = model.Logits(hidden);
            }
        }
        finally
        {
            foreach (var (_, layer) in layers)
            {
                layer.Adapter = null;
            }
        }
    }

    /// <summary>Groups layers that receive the same input, such as the projections of a block; each group in the model's order.</summary>
    /// <param name="model">The model.</param>
    /// <param name="batch">A batch.</param>
    /// <param name="layers">The layers.</param>
    internal static IReadOnlyList<IReadOnlyList<string>> Groups(CausalLanguageModel model, StartBatch batch, IReadOnlyCollection<(string Name, LinearLayer Layer)> layers)
    {
        var hashes = new List<(string Name, string Hash)>();
        Show(model, batch, layers, (name, states) =>
        {
            using var scope = NewDisposeScope();
            hashes.Add((name, Convert.ToHexString(SHA256.HashData(states.index_select(0, batch.Tokens).to(float32).cpu().contiguous().bytes))));
        });
        var order = layers.Select(static (l, i) => (l.Name, Index: i)).ToDictionary(static l => l.Name, static l => l.Index);
        return [.. hashes.DistinctBy(static h => h.Name).OrderBy(h => order[h.Name]).GroupBy(static h => h.Hash).Select(static g => (IReadOnlyList<string>)[.. g.Select(static h => h.Name)])];
    }

    private sealed class Observer(Action<Tensor> see) : ILinearAdapter
    {
        public Tensor Apply(LinearLayer layer, Tensor input, Tensor output)
        {
            see(input);
            return output;
        }
    }
}
