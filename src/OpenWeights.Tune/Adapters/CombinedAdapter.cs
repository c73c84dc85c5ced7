using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// A linear combination of adapters over one base: W + sum of w (W' - W), where W' is the base's weight with an adapter merged in. It can be
/// put on the model, and be merged; one adapter at 1 is that adapter.
/// </summary>
public sealed class CombinedAdapter : IDisposable
{
    private readonly IReadOnlyList<(LoraAdapter Adapter, double Weight)> _adapters;
    private readonly List<(WeightSlot Slot, Parameter Value)> _replaced = [];
    private readonly List<CombinedLayer> _mixed = [];

    /// <summary>A combination.</summary>
    /// <param name="adapters">Adapters of one model, and how much of each; they stay the caller's.</param>
    /// <exception cref="ArgumentException">An adapter is there twice, or a weight is not a finite number.</exception>
    public CombinedAdapter(IReadOnlyList<(LoraAdapter Adapter, double Weight)> adapters)
    {
        ArgumentNullException.ThrowIfNull(adapters);
        if (adapters.Select(static a => a.Adapter).Distinct().Count() != adapters.Count || adapters.Any(static a => !double.IsFinite(a.Weight)))
        {
            throw new ArgumentException("adapters are combined once each, with finite weights", nameof(adapters));
        }

        _adapters = adapters;
        ChangedTensors = adapters.SelectMany(static a => a.Adapter.ChangedTensors).ToHashSet();
    }

    /// <summary>The base's tensors that merging changes.</summary>
    public IReadOnlySet<string> ChangedTensors { get; }

    /// <summary>Whether an embedding and a head that are one weight in the base stay one.</summary>
    internal bool KeepsTie => _adapters.All(static a => a.Adapter.KeepsTie || !a.Adapter.Parts.Any(static p => AdapterTargets.IsEmbedding(p.Module)));

    private bool IsSingle => _adapters is [{ Weight: 1 }];

    /// <summary>A tensor of the base with the combination merged in.</summary>
    /// <param name="tensor">The base's name.</param>
    /// <param name="weight">The base's values, float32.</param>
    public Tensor Merged(string tensor, Tensor weight)
    {
        ArgumentNullException.ThrowIfNull(weight);
        if (IsSingle)
        {
            return _adapters[0].Adapter.Merged(tensor, weight);
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var sum = weight.clone();
        foreach (var (adapter, share) in _adapters.Where(a => a.Adapter.ChangedTensors.Contains(tensor)))
        {
            using Scalar factor = share;
            _ = sum.add_(adapter.Merged(tensor, weight).sub(weight), factor);
        }

        return sum.MoveToOuterDisposeScope();
    }

    /// <summary>Takes whatever is on the model off it and puts the combination on.</summary>
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

        var parts = _adapters.SelectMany(static a => a.Adapter.Parts.Select(p => (Part: p, a.Weight))).ToList();
        foreach (var layer in parts.Where(static p => Target(p.Part) is not null).GroupBy(static p => Target(p.Part)!))
        {
            layer.Key.Adapter = Mixed(layer);
        }

        foreach (var layer in parts.Where(static p => p.Part is EmbeddingLora).GroupBy(static p => ((EmbeddingLora)p.Part).Target))
        {
            layer.Key.Adapter = Mixed(layer);
        }

        foreach (var slot in parts.Where(static p => p.Part is ReplacedWeight).GroupBy(static p => ((ReplacedWeight)p.Part).Slot))
        {
            Replace(slot.Key, slot.Select(static p => ((ReplacedWeight)p.Part, p.Weight)));
        }
    }

    /// <summary>Takes every adapter off a model: it is the base again.</summary>
    /// <param name="model">The model.</param>
    public static void Disable(CausalLanguageModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
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
            }
        }
    }

    /// <summary>Frees what the combination made for itself; the adapters stay. It must be off the model.</summary>
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
        _ => null,
    };

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
            throw new InvalidOperationException("a module whose base is held quantised and that is trained whole cannot be combined; use one adapter at 1");
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var sum = own.detach().to(float32, copy: true);
        foreach (var (part, weight) in parts)
        {
            using Scalar factor = weight;
            _ = sum.add_(part.Value.to(float32).sub(own), factor);
        }

        var value = new Parameter(sum.to(own.dtype), requires_grad: false);
        _ = value.DetachFromDisposeScope();
        _replaced.Add((slot, value));
        slot.Replacement = value;
    }
}
