using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Models;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// A linear combination of adapters on one base model: W + sum of w (W' - W), where W' is the base weight with an adapter merged in. It can
/// be activated on the model, or merged; a single adapter with weight 1 equals that adapter.
/// </summary>
internal sealed class CombinedAdapter : IDisposable
{
    private readonly IReadOnlyList<(PeftAdapter Adapter, double Weight)> _adapters;
    private readonly List<(WeightSlot Slot, Parameter Value)> _replaced = [];
    private readonly List<CombinedLayer> _mixed = [];

    /// <summary>Creates a combination.</summary>
    /// <param name="adapters">Adapters of one model, with their weights; the caller keeps ownership.</param>
    /// <exception cref="ArgumentException">An adapter occurs twice, or a weight is not finite.</exception>
    public CombinedAdapter(IReadOnlyList<(PeftAdapter Adapter, double Weight)> adapters)
    {
        ArgumentNullException.ThrowIfNull(adapters);
        if (adapters.Select(static a => a.Adapter).Distinct().Count() != adapters.Count || adapters.Any(static a => !double.IsFinite(a.Weight)))
        {
            throw new ArgumentException("each adapter may occur only once in a combination, and its weight must be finite", nameof(adapters));
        }

        if ((adapters.Count > 1 || adapters.Any(static a => a.Weight != 1)) && adapters.Select(static a => a.Adapter).FirstOrDefault(static a => !a.CanBeCombined) is { } alone)
        {
            throw new ArgumentException($"{Lonely(alone)} cannot be combined with others or weighted", nameof(adapters));
        }

        _adapters = adapters;
        ChangedTensors = adapters.SelectMany(static a => a.Adapter.ChangedTensors).ToHashSet();
    }

    /// <summary>Tensors of the base model that merging changes.</summary>
    public IReadOnlySet<string> ChangedTensors { get; }

    /// <summary>The base's layers that the adapter stacks (layer_replication); null for the base's own order.</summary>
    internal IReadOnlyList<int>? LayerOrder => _adapters.Select(static a => a.Adapter.LayerOrder).FirstOrDefault(static order => order is not null);

    /// <summary>Whether an adapter is part of the combination.</summary>
    /// <param name="adapter">The adapter.</param>
    internal bool Contains(PeftAdapter adapter) => _adapters.Any(a => ReferenceEquals(a.Adapter, adapter));

    /// <summary>Whether embedding and output head that are tied in the base model stay tied.</summary>
    internal bool KeepsTie => _adapters.All(static a => a.Adapter.KeepsTie || !a.Adapter.Parts.Any(p => a.Adapter.Base.Config.Names.IsEmbeddingOrHead(p.Module)));

    /// <summary>Why the combination cannot be merged; null if it can.</summary>
    internal string? Unmergeable => _adapters.Select(static a => a.Adapter.Unmergeable).FirstOrDefault(static reason => reason is not null);

    /// <summary>The shape that a tensor of the base has after merging, where it is another: of an embedding whose vocabulary grew.</summary>
    /// <param name="tensor">Name of the tensor.</param>
    internal IReadOnlyList<long>? NewShape(string tensor) =>
        _adapters.SelectMany(static a => a.Adapter.Parts).OfType<ReplacedWeight>().FirstOrDefault(p => p.ChangedTensors.Contains(tensor) && p.Grows)?.Value.shape;

    private static string Lonely(PeftAdapter adapter) => adapter.Unmergeable is null && adapter.LayerOrder is null ? "an adapter with a vocabulary of its own" : "an adapter with alora_invocation_tokens or layer_replication";

    private bool IsSingle => _adapters is [{ Weight: 1 }];

    /// <summary>A tensor of the base model with the combination merged in.</summary>
    /// <param name="tensor">Name of the tensor.</param>
    /// <param name="weight">The base model's values, float32.</param>
    public Tensor Merged(string tensor, Tensor weight) => Merged(tensor, weight, adapter => adapter.Merged(tensor, weight));

    /// <summary>One expert's part of a tensor that holds a matrix of every expert, with the combination merged in.</summary>
    /// <param name="tensor">Name of the tensor.</param>
    /// <param name="expert">Index of the expert.</param>
    /// <param name="weight">The base model's values of the expert, float32.</param>
    internal Tensor MergedExpert(string tensor, int expert, Tensor weight) => Merged(tensor, weight, adapter => adapter.MergedExpert(tensor, expert, weight));

    private Tensor Merged(string tensor, Tensor weight, Func<PeftAdapter, Tensor> merge)
    {
        ArgumentNullException.ThrowIfNull(weight);
        if (IsSingle)
        {
            return merge(_adapters[0].Adapter);
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var sum = weight.clone();
        foreach (var (adapter, share) in _adapters.Where(a => a.Adapter.ChangedTensors.Contains(tensor)))
        {
            using Scalar factor = share;
            _ = sum.add_(merge(adapter).sub(weight), factor);
        }

        return sum.MoveToOuterDisposeScope();
    }

    /// <summary>Activates the combination on the model, replacing what was active.</summary>
    /// <param name="model">The model of the adapters.</param>
    public void Enable(CausalLanguageModel model)
    {
        Disable(model);
        Dispose();
        if (IsSingle)
        {
            _adapters[0].Adapter.Enabled = true;
            return;
        }

        RequireNoPrompt("combined with others or weighted");
        var parts = _adapters.SelectMany(static a => a.Adapter.Parts.Select(p => (Part: p, a.Weight))).ToList();
        foreach (var layer in parts.Where(static p => Target(p.Part) is not null).GroupBy(static p => Target(p.Part)!))
        {
            layer.Key.Adapter = Mixed(layer);
        }

        foreach (var layer in parts.Where(static p => TargetEmbedding(p.Part) is not null).GroupBy(static p => TargetEmbedding(p.Part)!))
        {
            layer.Key.Adapter = Mixed(layer);
        }

        foreach (var (part, weight) in parts)
        {
            (part as ExpertLora)?.Add(weight);
        }

        foreach (var slot in parts.Where(static p => p.Part is ReplacedWeight).GroupBy(static p => ((ReplacedWeight)p.Part).Slot))
        {
            Replace(slot.Key, slot.Select(static p => ((ReplacedWeight)p.Part, p.Weight)));
        }
    }

    /// <summary>Removes all adapters from a model, which restores the base model.</summary>
    /// <param name="model">The model.</param>
    public static void Disable(CausalLanguageModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        model.Stack.Invocation = null;
        model.Stack.RowAdapters = null;
        model.Use(null);
        model.Stack.Virtual = null;
        foreach (var (_, module) in model.AdaptableModules)
        {
            foreach (var slot in ((IWeighted)module).Slots)
            {
                slot.Replacement = null;
            }

            switch (module)
            {
                case LinearLayer layer:
                    layer.Adapter = null;
                    break;
                case TokenEmbedding embedding:
                    embedding.Adapter = null;
                    break;
                case StackedExperts experts:
                    experts.First.Updates.Clear();
                    experts.Down.Updates.Clear();
                    break;
            }
        }
    }

    /// <summary>Throws if an adapter has virtual tokens, which are no part of the weights.</summary>
    /// <param name="what">What is not possible.</param>
    /// <exception cref="InvalidDataException">An adapter has virtual tokens.</exception>
    internal void RequireNoPrompt(string what)
    {
        if (_adapters.FirstOrDefault(static a => a.Adapter.Parts.Any(static p => p is PromptPart)).Adapter is { } prompt)
        {
            throw new InvalidDataException($"a {prompt.Config.TypeName} adapter has virtual tokens ahead of the text and changes no weights, so that it cannot be {what}; use it as an adapter.");
        }
    }

    /// <summary>Frees what the combination created; the adapters remain. It must not be active.</summary>
    public void Dispose()
    {
        _replaced.ForEach(static r => r.Value.Dispose());
        _replaced.Clear();
        _mixed.ForEach(static m => m.Dispose());
        _mixed.Clear();
    }

    private static LinearLayer? Target(AdapterPart part) => part switch
    {
        LoraLayer layer => layer.Target,
        TiedHeadLora head => head.Target,
        TrainableTokens rows => rows.Layer,
        LinearPart layer => layer.Target,
        _ => null,
    };

    private static TokenEmbedding? TargetEmbedding(AdapterPart part) => (part as EmbeddingLora)?.Target ?? (part as EmbeddingPart)?.Target ?? (part as TrainableTokens)?.Embedding;

    private CombinedLayer Mixed(IEnumerable<(AdapterPart Part, double Weight)> parts)
    {
        var mixed = new CombinedLayer(parts);
        _mixed.Add(mixed);
        return mixed;
    }

    private void Replace(WeightSlot slot, IEnumerable<(ReplacedWeight Part, double Weight)> parts)
    {
        if (slot.Own is not { } own)
        {
            throw new InvalidOperationException("a fully trained module of a quantized base model cannot be combined; use a single adapter with weight 1");
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var sum = own.detach().to(WideNumbers.Of(own.dtype), copy: true);
        foreach (var (part, weight) in parts)
        {
            using Scalar factor = weight;
            _ = sum.add_(part.Value.Widened().sub(own), factor);
        }

        var value = new Parameter(sum.to(own.dtype), requires_grad: false);
        _ = value.DetachFromDisposeScope();
        _replaced.Add((slot, value));
        slot.Replacement = value;
    }
}
