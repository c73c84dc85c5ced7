using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Optimizers;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Benchmarks;

/// <summary>A model that is trained only for a benchmark.</summary>
internal sealed class BenchmarkModel : ITrainedModel
{
    private readonly PeftAdapter? _adapter;

    internal BenchmarkModel(CausalLanguageModel model, int? rank, string optimizer = "adamw")
    {
        Model = model;
        _adapter = rank is { } r ? PeftAdapter.Create(model, new LoraConfig { Rank = r, Alpha = 2 * r }, seed: 42) : null;
        if (_adapter is null)
        {
            foreach (var parameter in model.parameters())
            {
                parameter.requires_grad = true;
            }
        }

        Parameters = _adapter is null ? TrainedParameters.Of(model, decayNormsAndBiases: false) : TrainedParameters.Of(_adapter, rates: null, decayNormsAndBiases: true, freezesA: optimizer == "lora_fa");
    }

    public CausalLanguageModel Model { get; }

    public IReadOnlyList<TrainedParameter> Parameters { get; }

    public string ResultName => _adapter is null ? "model" : "adapter";

    public bool Training
    {
        set
        {
            // The benchmark uses no dropout.
        }
    }

    public void Save(string folder) => throw Nothing();

    public void Restore(string folder) => throw Nothing();

    public void Dispose() => _adapter?.Dispose();

    private static NotSupportedException Nothing() => new("a benchmark's model cannot be saved or resumed");
}
