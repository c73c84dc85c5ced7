using System.Text.Json.Nodes;
using OpenWeights.Tune.Models;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>An adapter on a model: updates of the target modules, and modules trained in full alongside.</summary>
internal sealed class PeftAdapter : IDisposable
{
    private readonly List<AdapterPart> _parts;
    private LayerReplicas? _replicas;
    private InvocationTokens? _invocation;

    private PeftAdapter(CausalLanguageModel @base, AdapterConfig config, List<AdapterPart> parts)
    {
        Base = @base;
        Config = config;
        _parts = parts;
    }

    /// <summary>The settings.</summary>
    public AdapterConfig Config { get; internal set; }

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
        set
        {
            if (_replicas is not null)
            {
                Base.Use(value ? _replicas : null);
            }

            if (_invocation is not null)
            {
                Base.Stack.Invocation = value ? _invocation : null;
            }

            _parts.ForEach(p => p.Enabled = value);
        }
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

    /// <summary>What the kind does while training besides following the gradients; null for nothing.</summary>
    internal IAdapterSchedule? Schedule { get; set; }

    /// <summary>Fingerprint of the base model; null if not yet computed.</summary>
    internal BaseFingerprint? Fingerprint { get; set; }

    /// <summary>The base model.</summary>
    internal CausalLanguageModel Base { get; }

    /// <summary>The tokens that switch the adapter on; null if it applies to all tokens.</summary>
    internal InvocationTokens? Invocation => _invocation;

    /// <summary>Why the adapter cannot be merged; null if it can.</summary>
    internal string? Unmergeable => _invocation is not null ? "alora_invocation_tokens: the adapter applies to some tokens of a text only, so that no weights are equal to it"
        : null;

    /// <summary>Why the adapter cannot be used for single rows of a batch (<see cref="AdapterSet.UseByRow"/>); null if it can.</summary>
    public string? Unmixable => RowAdapters.Problem(this);

    /// <summary>Index of the model's own layer that each layer in use is a copy of (layer_replication); null if the layers are the model's own.</summary>
    internal IReadOnlyList<int>? LayerOrder => _replicas?.Order;

    /// <summary>Whether the adapter can be summed with others.</summary>
    internal bool CanBeCombined => Unmergeable is null && _replicas is null && !_parts.Exists(static p => p is ReplacedWeight { Grows: true });

    /// <summary>Whether embedding and head, tied in the base model, are changed together.</summary>
    internal bool KeepsTie { get; init; }

    /// <summary>
    /// Adds a new adapter to a model, initialized as in PEFT: with random numbers, zeros, and what its kind computes from the base weights.
    /// </summary>
    /// <param name="model">The base model; its own weights are not changed.</param>
    /// <param name="config">The settings.</param>
    /// <param name="seed">Random seed.</param>
    /// <param name="data">Training data, for LoRA's starts eva, corda and lora_ga; null for none.</param>
    /// <exception cref="InvalidDataException">The settings match no layer of the model, or cannot be combined.</exception>
    public static PeftAdapter Create(CausalLanguageModel model, AdapterConfig config, long seed, StartData? data = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(config);
        AdapterTargets.RequireNames(model, config);
        var kind = AdapterKinds.Of(config);
        using var generator = new Generator((ulong)seed);
        var adapter = kind.Fresh(model, PatternOrder.Settled(model, kind.Resolve(model, config)), generator, data);
        adapter.Fingerprint = BaseFingerprint.Of(model);
        return adapter;
    }

    /// <summary>Adds a new adapter whose weights have a shape but no memory to a model, for estimating a run's memory.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="config">The settings.</param>
    /// <exception cref="InvalidDataException">The settings match no layer of the model, or cannot be combined.</exception>
    internal static PeftAdapter CreateMeta(CausalLanguageModel model, AdapterConfig config)
    {
        AdapterTargets.RequireNames(model, config);
        var kind = AdapterKinds.Of(config);
        return kind.Meta(model, PatternOrder.Settled(model, kind.Resolve(model, config)));
    }

    /// <summary>Adds a LoRA adapter with given weights to a model.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="config">The settings.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="source">The config file that the settings were read from, or null.</param>
    /// <param name="savesAdaptedEmbeddings">Whether its file contains complete adapted embeddings.</param>
    /// <exception cref="InvalidDataException">The settings match no layer of the model, or cannot be combined.</exception>
    internal static PeftAdapter Attach(CausalLanguageModel model, LoraConfig config, IAdapterWeights weights, JsonObject? source = null, bool savesAdaptedEmbeddings = true)
    {
        var tie = WeightTie.Of(model, config);
        var replicas = Replicas(model, config);
        List<AdapterPart> parts;
        try
        {
            parts = LoraParts.Of(model, tie, weights);
        }
        catch
        {
            model.Use(null);
            replicas?.Dispose();
            throw;
        }

        return new PeftAdapter(model, tie.Config, parts)
        {
            Source = source,
            SavesAdaptedEmbeddings = savesAdaptedEmbeddings,
            KeepsTie = tie.Keeps || LoraParts.KeepTie(model, parts),
            _replicas = replicas,
            _invocation = config.InvocationTokens.Count == 0 ? null : new InvocationTokens(config.InvocationTokens),
            Enabled = true,
        };
    }

    /// <summary>Puts the layers of layer_replication in the place of a model's own; null if the setting has none.</summary>
    /// <param name="model">The model.</param>
    /// <param name="config">The settings.</param>
    internal static LayerReplicas? Replicas(CausalLanguageModel model, LoraConfig config)
    {
        if (config.LayerReplication.Count == 0)
        {
            return null;
        }

        var replicas = LayerReplicas.Of(model, [.. config.LayerReplication.SelectMany(static r => Enumerable.Range(r.First, r.End - r.First))]);
        model.Use(replicas);
        return replicas;
    }

    /// <summary>Adds an adapter with given parts to a model.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="config">The settings.</param>
    /// <param name="parts">The parts, in model order.</param>
    /// <param name="source">The config file that the settings were read from, or null.</param>
    internal static PeftAdapter Attach(CausalLanguageModel model, AdapterConfig config, IEnumerable<AdapterPart> parts, JsonObject? source) =>
        new(model, config, All(parts)) { Source = source, Enabled = true };

    // Parts that were made before one failed are freed.
    private static List<AdapterPart> All(IEnumerable<AdapterPart> parts)
    {
        var all = new List<AdapterPart>();
        try
        {
            foreach (var part in parts)
            {
                all.Add(part);
            }

            return all;
        }
        catch
        {
            all.ForEach(static p => p.Dispose());
            throw;
        }
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

        if (_replicas is not null && ReferenceEquals(Base.Stack.Replicas, _replicas))
        {
            Base.Use(null);
        }

        if (_invocation is not null && ReferenceEquals(Base.Stack.Invocation, _invocation))
        {
            Base.Stack.Invocation = null;
        }

        _replicas?.Dispose();
        _parts.Clear();
        Schedule?.Dispose();
    }
}
