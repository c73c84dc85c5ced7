using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>Measures the covariance of each layer's inputs: the mean over rows of Xᵀ X, where X is a row's inputs divided by the largest of them.</summary>
internal static class CovariancePass
{
    /// <summary>Covariances, [in, in], float32, in no dispose scope; layers with the same input share one.</summary>
    /// <param name="model">The model.</param>
    /// <param name="layers">The layers.</param>
    /// <param name="data">Training data.</param>
    internal static IReadOnlyDictionary<string, Tensor> Run(CausalLanguageModel model, IReadOnlyList<(string Name, LinearLayer Layer)> layers, StartData data)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var groups = LayerInputs.Groups(model, data.Batch(0), layers);
        var sums = new Dictionary<string, Tensor>();
        var leaders = layers.Where(l => groups.Any(g => g[0] == l.Name)).ToList();
        foreach (var (name, layer) in leaders)
        {
            sums[name] = zeros([layer.InFeatures, layer.InFeatures], float32, model.DeviceOf(name));
        }

        var count = 0L;
        for (var i = 0; i < data.Count; i++)
        {
            using var inner = NewDisposeScope();
            var batch = data.Batch(i);
            count += batch.Rows.Count;
            LayerInputs.Show(model, batch, leaders, (name, states) => Add(sums[name], states, batch.Rows, name));
        }

        foreach (var sum in sums.Values)
        {
            _ = sum.div_(count);
        }

        return groups.SelectMany(static g => g.Select(name => (Name: name, Leader: g[0]))).ToDictionary(static g => g.Name, g => scope.Detach(sums[g.Leader]));
    }

    private static void Add(Tensor sum, Tensor states, IReadOnlyList<(long First, long Count)> rows, string name)
    {
        foreach (var (first, length) in rows)
        {
            using var scope = NewDisposeScope();
            var row = states.narrow(0, first, length).to(float32);
            row = row.div(row.max().abs());
            if (!row.isfinite().all().ToBoolean())
            {
                throw new InvalidDataException($"init_lora_weights: corda: the inputs of {name} are not finite, or a row of them has no value above 0.");
            }

            _ = sum.addmm_(row.t(), row);
        }
    }
}
