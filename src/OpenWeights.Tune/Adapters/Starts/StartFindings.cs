using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>What was measured of each adapted layer on training data: a covariance, a gradient, or principal components.</summary>
/// <param name="config">The settings of the adapter, with what the measurement decided.</param>
/// <param name="values">A tensor of each layer, in no dispose scope; layers may share one.</param>
internal sealed class StartFindings(LoraConfig config, IReadOnlyDictionary<string, Tensor> values) : IDisposable
{
    /// <summary>The settings of the adapter, with what the measurement decided: EVA's ranks.</summary>
    internal LoraConfig Config => config;

    /// <summary>Measures what an initialization needs; null if it needs nothing.</summary>
    /// <param name="model">The base model, without an adapter.</param>
    /// <param name="config">Settings of the adapter.</param>
    /// <param name="data">Training data.</param>
    /// <exception cref="InvalidDataException">There is no data, or a layer's values cannot be measured.</exception>
    internal static StartFindings? Measure(CausalLanguageModel model, LoraConfig config, StartData? data)
    {
        if (!LoraStarts.NeedsData(config.Init))
        {
            return null;
        }

        if (data is null || data.Count == 0)
        {
            throw new InvalidDataException($"init_lora_weights: {LoraStarts.Name(config)} is computed from training data, and there is none; give it a few batches, or use another start.");
        }

        using var replicas = PeftAdapter.Replicas(model, config);
        try
        {
            return Run(model, config, data);
        }
        finally
        {
            model.Use(null);
        }
    }

    private static StartFindings Run(CausalLanguageModel model, LoraConfig config, StartData data)
    {
        var layers = Targets(model, config);
        return config.Init switch
        {
            LoraInit.Eva => EvaPass.Run(model, config, layers, data),
            LoraInit.Corda => new StartFindings(config, CovariancePass.Run(model, layers, data)),
            _ => new StartFindings(config, GradientPass.Run(model, layers, data)),
        };
    }

    /// <summary>What was measured of a layer.</summary>
    /// <param name="module">Name of the layer.</param>
    internal Tensor Of(string module) => values[module];

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var tensor in values.Values.DistinctBy(static t => t, ReferenceEqualityComparer.Instance).ToList())
        {
            tensor.Dispose();
        }
    }

    /// <summary>The adapted linear layers.</summary>
    private static List<(string Name, LinearLayer Layer)> Targets(CausalLanguageModel model, LoraConfig config) =>
        [.. model.AdaptableModules.Where(m => m.Module is LinearLayer && AdapterTargets.IsAdapted(model, m, config)).Select(static m => (m.Name, (LinearLayer)m.Module))];
}
