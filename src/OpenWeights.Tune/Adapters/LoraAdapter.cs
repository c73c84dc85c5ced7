using OpenWeights.Tune.Models;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>A LoRA adapter over a model: one low-rank update for each layer that its settings name.</summary>
public sealed class LoraAdapter : IDisposable
{
    private readonly List<(LinearLayer Target, LoraLayer Lora)> _layers;

    private LoraAdapter(LoraConfig config, List<(LinearLayer Target, LoraLayer Lora)> layers)
    {
        Config = config;
        _layers = layers;
    }

    /// <summary>The settings.</summary>
    public LoraConfig Config { get; }

    /// <summary>The updates, in the model's order.</summary>
    public IReadOnlyList<LoraLayer> Layers => [.. _layers.Select(static l => l.Lora)];

    /// <summary>The adapter's parameters by PEFT's names without its prefix, such as model.layers.0.self_attn.q_proj.lora_A.weight.</summary>
    public IReadOnlyList<(string Name, Parameter Parameter)> Parameters =>
        [.. _layers.SelectMany(static l => new[] { ($"{l.Lora.Module}.lora_A.weight", l.Lora.A), ($"{l.Lora.Module}.lora_B.weight", l.Lora.B) })];

    /// <summary>Whether the model computes with the adapter; off, it is the base model again.</summary>
    public bool Enabled
    {
        get => _layers.TrueForAll(static l => l.Target.Adapter == l.Lora);
        set => _layers.ForEach(l => l.Target.Adapter = value ? l.Lora : null);
    }

    /// <summary>Whether dropout is on.</summary>
    public bool Training
    {
        set => _layers.ForEach(l => l.Lora.Training = value);
    }

    /// <summary>
    /// Puts a fresh adapter on a model, as PEFT starts one: A uniform within 1 / sqrt(in) (Kaiming with a = sqrt 5), B zero, both float32.
    /// </summary>
    /// <param name="model">The base model; its own weights stay as they are.</param>
    /// <param name="config">The settings.</param>
    /// <param name="seed">The seed of A's numbers.</param>
    /// <exception cref="InvalidDataException">The settings name no layer of the model.</exception>
    public static LoraAdapter Create(CausalLanguageModel model, LoraConfig config, long seed)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(config);
        using var generator = new Generator((ulong)seed);
        return Attach(model, config, (module, layer, rank) =>
        {
            using var scope = NewDisposeScope();
            var bound = 1 / Math.Sqrt(layer.InFeatures);
            return (
                scope.Detach(empty([rank, layer.InFeatures], float32).uniform_(-bound, bound, generator).to(float32, model.Device)),
                scope.Detach(zeros([layer.OutFeatures, rank], float32, model.Device)));
        });
    }

    /// <summary>Puts an adapter on a model whose weights come from elsewhere.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="config">The settings.</param>
    /// <param name="weights">A [rank, in] and B [out, rank] of a layer; they become the adapter's.</param>
    /// <exception cref="InvalidDataException">The settings name no layer of the model.</exception>
    internal static LoraAdapter Attach(CausalLanguageModel model, LoraConfig config, Func<string, LinearLayer, int, (Tensor A, Tensor B)> weights)
    {
        var layers = new List<(LinearLayer, LoraLayer)>();
        foreach (var (name, layer) in Select(model, config))
        {
            var (a, b) = weights(name, layer, config.RankOf(name));
            layers.Add((layer, new LoraLayer(name, new Parameter(a), new Parameter(b), config.ScaleOf(name), config.Dropout)));
        }

        return new LoraAdapter(config, layers) { Enabled = true };
    }

    /// <summary>The layers that the settings name.</summary>
    /// <exception cref="InvalidDataException">There are none; the message lists what is there.</exception>
    internal static IReadOnlyList<(string Name, LinearLayer Layer)> Select(CausalLanguageModel model, LoraConfig config)
    {
        var chosen = model.LinearLayers.Where(l => config.Targets.Matches(l.Name) && config.Excluded?.Matches(l.Name) != true).ToList();
        if (chosen.Count > 0)
        {
            return chosen;
        }

        var there = model.LinearLayers.Select(static l => l.Name[(l.Name.LastIndexOf('.') + 1)..]).Distinct().Order(StringComparer.Ordinal);
        var asked = config.Targets.Pattern ?? string.Join(", ", config.Targets.Names ?? ["all-linear"]);
        throw new InvalidDataException($"target_modules ({asked}) names no layer of the model; its linear layers are {string.Join(", ", there)}.");
    }

    /// <summary>Takes the adapter off the model and frees it.</summary>
    public void Dispose()
    {
        Enabled = false;
        _layers.ForEach(static l => l.Lora.Dispose());
        _layers.Clear();
    }
}
