using System.Text.Json.Nodes;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>An adapter on a model: updates of the target modules, and modules trained in full alongside.</summary>
public sealed class PeftAdapter : IDisposable
{
    private readonly List<AdapterPart> _parts;

    private PeftAdapter(CausalLanguageModel @base, LoraConfig config, List<AdapterPart> parts)
    {
        Base = @base;
        Config = config;
        _parts = parts;
    }

    /// <summary>The settings.</summary>
    public LoraConfig Config { get; }

    /// <summary>The parts of the adapter, one per module, in model order.</summary>
    public IReadOnlyList<AdapterPart> Parts => _parts;

    /// <summary>The updates of linear layers, in model order.</summary>
    public IReadOnlyList<LoraLayer> Layers => [.. _parts.OfType<LoraLayer>()];

    /// <summary>The adapter's parameters by PEFT's names without its prefix, such as model.layers.0.self_attn.q_proj.lora_A.weight.</summary>
    public IReadOnlyList<(string Name, Parameter Parameter)> Parameters => [.. _parts.SelectMany(static p => p.Parameters)];

    /// <summary>Tensors of the base model that merging changes.</summary>
    public IReadOnlySet<string> ChangedTensors => _parts.SelectMany(static p => p.ChangedTensors).ToHashSet();

    /// <summary>Whether the adapter is applied; if off, the model computes as the base model.</summary>
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

    /// <summary>The adapter_config.json it was loaded from; null for a new adapter.</summary>
    internal JsonObject? Source { get; init; }

    /// <summary>Whether the saved file contains the base weights of adapted embeddings and heads, as PEFT's files do.</summary>
    internal bool SavesAdaptedEmbeddings { get; init; } = true;

    /// <summary>Fingerprint of the base model; null if not yet computed.</summary>
    internal BaseFingerprint? Fingerprint { get; set; }

    /// <summary>The base model.</summary>
    internal CausalLanguageModel Base { get; }

    /// <summary>Whether embedding and head, tied in the base model, are changed together.</summary>
    internal bool KeepsTie { get; init; }

    /// <summary>
    /// Adds a new adapter to a model, initialized as in PEFT. Apart from DoRA magnitudes and PiSSA its weights are float32 random numbers
    /// and zeros.
    /// </summary>
    /// <param name="model">The base model; its own weights are not changed.</param>
    /// <param name="config">The settings.</param>
    /// <param name="seed">Random seed.</param>
    /// <exception cref="InvalidDataException">The settings match no layer of the model, or cannot be combined.</exception>
    public static PeftAdapter Create(CausalLanguageModel model, LoraConfig config, long seed)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(config);
        AdapterTargets.RequireNames(model, config);
        config = ExpertTargeting.Convert(model, config);
        using var generator = new Generator((ulong)seed);
        var adapter = Attach(model, config, new FreshWeights(model, config, generator));
        adapter.Fingerprint = BaseFingerprint.Of(model);
        return adapter;
    }

    /// <summary>Adds an adapter with given weights to a model.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="config">The settings.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="source">The config file that the settings were read from, or null.</param>
    /// <param name="savesAdaptedEmbeddings">Whether its file contains complete adapted embeddings.</param>
    /// <exception cref="InvalidDataException">The settings match no layer of the model, or cannot be combined.</exception>
    internal static PeftAdapter Attach(CausalLanguageModel model, LoraConfig config, IAdapterWeights weights, JsonObject? source = null, bool savesAdaptedEmbeddings = true)
    {
        var parts = new List<AdapterPart>();
        var tie = WeightTie.Of(model, config);
        config = tie.Config;
        try
        {
            foreach (var (name, module) in AdapterTargets.Of(model, config))
            {
                parts.AddRange(tie.Keeps && name == model.Config.Names.Head ? WeightTie.HeadParts(model.Config.Names, (LinearLayer)module, parts) : PartsOf(model, name, module, config, weights));
            }
        }
        catch
        {
            parts.ForEach(static p => p.Dispose());
            throw;
        }

        return new PeftAdapter(model, config, parts) { Source = source, SavesAdaptedEmbeddings = savesAdaptedEmbeddings, KeepsTie = tie.Keeps, Enabled = true };
    }

    /// <summary>A tensor of the base model with the adapter merged in.</summary>
    /// <param name="tensor">Name of the tensor, such as model.layers.0.self_attn.q_proj.weight.</param>
    /// <param name="weight">The base model's values, float32.</param>
    /// <returns>New values, in the current dispose scope.</returns>
    public Tensor Merged(string tensor, Tensor weight) => Merged(tensor, weight, (part, merged) => part.Merged(tensor, merged));

    /// <summary>One expert's part of a tensor that holds a matrix of every expert, with the adapter merged in.</summary>
    /// <param name="tensor">Name of the tensor, such as model.layers.0.mlp.experts.down_proj.</param>
    /// <param name="expert">Index of the expert.</param>
    /// <param name="weight">The base model's values of the expert, float32.</param>
    /// <returns>New values, in the current dispose scope.</returns>
    internal Tensor MergedExpert(string tensor, int expert, Tensor weight) => Merged(tensor, weight, (part, merged) => part.MergedExpert(tensor, expert, merged));

    private Tensor Merged(string tensor, Tensor weight, Func<AdapterPart, Tensor, Tensor> merge)
    {
        ArgumentNullException.ThrowIfNull(weight);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var merged = weight.alias();
        foreach (var part in _parts.Where(p => p.ChangedTensors.Contains(tensor)))
        {
            merged = merge(part, merged);
        }

        return merged.MoveToOuterDisposeScope();
    }

    /// <summary>Removes the adapter from the model and frees it.</summary>
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

    // A module's replaced weights come before its update, which is added to them.
    private static IEnumerable<AdapterPart> PartsOf(CausalLanguageModel model, string name, nn.Module module, LoraConfig config, IAdapterWeights weights)
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

        var adapted = AdapterTargets.IsAdapted(model, (name, module), config);
        if (model.Config.Names.IsEmbeddingOrHead(name))
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

        var experts = AdapterTargets.Experts((name, module), config).ToList();
        foreach (var matrix in experts)
        {
            var (parameter, isInner) = ($"{name}.{matrix.Name}", experts.Count == 2 && matrix == experts[0]);
            yield return new ExpertLora(name, matrix, weights.Experts(ExpertLora.FileName(name, isInner), matrix, config.RankOf(parameter)), config.ScaleOf(parameter), isInner);
        }
    }

    private static AdapterPart Update(string name, nn.Module module, LoraConfig config, IAdapterWeights weights)
    {
        var rank = config.RankOf(config.PatternName(name));
        if (module is LinearLayer linear)
        {
            return new LoraLayer(name, linear, weights.Linear(name, linear, rank), config.ScaleOf(config.PatternName(name)), config.AdaptsParameter($"{name}.weight") ? 0 : config.Dropout);
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
