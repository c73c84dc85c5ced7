using System.Text.Json.Nodes;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>A LoRA adapter over a model: low-rank updates of the modules that its settings name, and whatever is trained whole beside them.</summary>
public sealed class LoraAdapter : IDisposable
{
    private readonly List<AdapterPart> _parts;

    private LoraAdapter(CausalLanguageModel @base, LoraConfig config, List<AdapterPart> parts)
    {
        Base = @base;
        Config = config;
        _parts = parts;
    }

    /// <summary>The settings.</summary>
    public LoraConfig Config { get; }

    /// <summary>What the adapter does, module by module, in the model's order.</summary>
    public IReadOnlyList<AdapterPart> Parts => _parts;

    /// <summary>The updates of linear layers, in the model's order.</summary>
    public IReadOnlyList<LoraLayer> Layers => [.. _parts.OfType<LoraLayer>()];

    /// <summary>The adapter's parameters by PEFT's names without its prefix, such as model.layers.0.self_attn.q_proj.lora_A.weight.</summary>
    public IReadOnlyList<(string Name, Parameter Parameter)> Parameters => [.. _parts.SelectMany(static p => p.Parameters)];

    /// <summary>The base's tensors that merging changes.</summary>
    public IReadOnlySet<string> ChangedTensors => _parts.SelectMany(static p => p.ChangedTensors).ToHashSet();

    /// <summary>Whether the model computes with the adapter; off, it is the base model again.</summary>
    public bool Enabled
    {
        get => _parts.TrueForAll(static p => p.Enabled);
        set => _parts.ForEach(p => p.Enabled = value);
    }

    /// <summary>Whether dropout is on.</summary>
    public bool Training
    {
        set => _parts.ForEach(p => p.Training = value);
    }

    /// <summary>adapter_config.json as it was read; null for a fresh adapter.</summary>
    internal JsonObject? Source { get; init; }

    /// <summary>Whether a file of this adapter holds the base's weights of adapted embeddings and heads, as PEFT's do.</summary>
    internal bool SavesAdaptedEmbeddings { get; init; } = true;

    /// <summary>What is remembered of the base; null where nothing is yet.</summary>
    internal BaseFingerprint? Fingerprint { get; set; }

    /// <summary>The base.</summary>
    internal CausalLanguageModel Base { get; }

    /// <summary>Whether embedding and head, one weight in the base, are changed as one.</summary>
    internal bool KeepsTie { get; init; }

    /// <summary>Puts a fresh adapter on a model, as PEFT starts one; apart from magnitudes and PiSSA's parts its weights are float32 random numbers and zeros.</summary>
    /// <param name="model">The base model; its own weights stay as they are.</param>
    /// <param name="config">The settings.</param>
    /// <param name="seed">The seed of the random numbers.</param>
    /// <exception cref="InvalidDataException">The settings name no layer of the model, or ask for what cannot be.</exception>
    public static LoraAdapter Create(CausalLanguageModel model, LoraConfig config, long seed)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(config);
        AdapterTargets.RequireNames(model, config);
        using var generator = new Generator((ulong)seed);
        var adapter = Attach(model, config, new FreshWeights(model, config, generator));
        adapter.Fingerprint = BaseFingerprint.Of(model);
        return adapter;
    }

    /// <summary>Puts an adapter on a model whose weights come from elsewhere.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="config">The settings.</param>
    /// <param name="weights">Where they come from.</param>
    /// <param name="source">The config file that the settings were read from, or null.</param>
    /// <param name="savesAdaptedEmbeddings">Whether its file holds adapted embeddings whole.</param>
    /// <exception cref="InvalidDataException">The settings name no layer of the model, or ask for what cannot be.</exception>
    internal static LoraAdapter Attach(CausalLanguageModel model, LoraConfig config, IAdapterWeights weights, JsonObject? source = null, bool savesAdaptedEmbeddings = true)
    {
        var parts = new List<AdapterPart>();
        var tie = WeightTie.Of(model, config);
        config = tie.Config;
        try
        {
            foreach (var (name, module) in AdapterTargets.Of(model, config))
            {
                parts.AddRange(tie.Keeps && name == WeightTie.Head ? WeightTie.HeadParts((LinearLayer)module, parts) : PartsOf(name, module, config, weights));
            }
        }
        catch
        {
            parts.ForEach(static p => p.Dispose());
            throw;
        }

        return new LoraAdapter(model, config, parts) { Source = source, SavesAdaptedEmbeddings = savesAdaptedEmbeddings, KeepsTie = tie.Keeps, Enabled = true };
    }

    /// <summary>A tensor of the base with the adapter merged in.</summary>
    /// <param name="tensor">The base's name, such as model.layers.0.self_attn.q_proj.weight.</param>
    /// <param name="weight">The base's values, float32.</param>
    /// <returns>New values, in the dispose scope that is open.</returns>
    public Tensor Merged(string tensor, Tensor weight)
    {
        ArgumentNullException.ThrowIfNull(weight);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var merged = weight.alias();
        foreach (var part in _parts.Where(p => p.ChangedTensors.Contains(tensor)))
        {
            merged = part.Merged(tensor, merged);
        }

        return merged.MoveToOuterDisposeScope();
    }

    /// <summary>Takes the adapter off the model and frees it.</summary>
    public void Dispose()
    {
        foreach (var part in _parts)
        {
            if (part.Enabled)
            {
                part.Enabled = false;
            }

            part.Dispose();
        }

        _parts.Clear();
    }

    // A module's whole weights come before its update, which is added to them.
    private static IEnumerable<AdapterPart> PartsOf(string name, nn.Module module, LoraConfig config, IAdapterWeights weights)
    {
        var slots = ((IWeighted)module).Slots;
        if (config.SavesWhole(name))
        {
            foreach (var slot in slots)
            {
                var file = $"{name}.{slot.Name}";
                yield return new ReplacedWeight(name, slot, weights.Whole(file, module, slot), file, inFile: true);
            }

            yield break;
        }

        var adapted = AdapterTargets.IsAdapted((name, module), config);
        if (AdapterTargets.IsEmbedding(name))
        {
            var file = adapted ? $"{name}.base_layer.weight" : $"{name}.weight";
            if (weights.Frozen(file, slots[0]) is { } frozen)
            {
                yield return new ReplacedWeight(name, slots[0], frozen, file, inFile: !adapted);
            }
        }

        if (config.Bias == BiasTraining.All || (config.Bias == BiasTraining.LoraOnly && adapted))
        {
            foreach (var slot in slots.Where(static s => s.Name == "bias"))
            {
                var file = adapted ? $"{name}.base_layer.bias" : $"{name}.bias";
                yield return new ReplacedWeight(name, slot, weights.Whole(file, module, slot), file, inFile: true);
            }
        }

        if (adapted)
        {
            yield return Update(name, module, config, weights);
        }
    }

    private static AdapterPart Update(string name, nn.Module module, LoraConfig config, IAdapterWeights weights)
    {
        var rank = config.RankOf(name);
        if (module is LinearLayer linear)
        {
            return new LoraLayer(name, linear, weights.Linear(name, linear, rank), config.ScaleOf(name), config.Dropout);
        }

        if (AdapterTargets.Unfit(config, name) is { } unfit)
        {
            throw new InvalidDataException(unfit);
        }

        var embedding = (TokenEmbedding)module;
        var (a, b) = weights.Embedding(name, embedding, rank);
        return new EmbeddingLora(name, embedding, new Parameter(a), new Parameter(b), config.ScaleOf(name));
    }
}
