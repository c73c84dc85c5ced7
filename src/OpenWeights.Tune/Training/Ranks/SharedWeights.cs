using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>
/// The weights of a model, trained or frozen, of which each rank keeps a part (ZeRO-3, FSDP): the embedding, a layer or the head is gathered while it is computed, and what
/// comes next is asked for before. What is small stays whole: the final norm, a head of labels, and an adapter's own weights.
/// </summary>
internal sealed class SharedWeights : ILayerWeights, IDisposable
{
    // What the first rank says when it has read all.
    private const double Ended = -2;

    private readonly RankGroup _ranks;
    private readonly List<SharedUnit> _first = [];
    private readonly List<SharedUnit> _layers = [];
    private readonly List<SharedUnit> _last = [];
    private int? _shown;
    private bool _isWritten;
    private bool _leads;

    private CausalLanguageModel? _model;

    /// <summary>Shares out the parts of a model that it is told of.</summary>
    /// <param name="ranks">The ranks.</param>
    internal SharedWeights(RankGroup ranks) => _ranks = ranks;

    /// <summary>Shares out the weights of a model.</summary>
    /// <param name="model">The model.</param>
    /// <param name="ranks">The ranks.</param>
    internal SharedWeights(CausalLanguageModel model, RankGroup ranks)
        : this(ranks)
    {
        var embeddings = model.named_modules().Select(static m => m.module).OfType<TokenEmbedding>();
        foreach (var part in embeddings.Concat<nn.Module>(model.Stack.Layers))
        {
            Made(part);
        }

        if (model.Config is { TiedEmbeddings: false, Labels: null })
        {
            Made(model.Head);
        }

        Complete(model);
    }

    private CausalLanguageModel Model => _model ?? throw new InvalidOperationException("the model is not complete");

    /// <summary>Whether the head over the vocabulary is computed with; it is gathered behind the layers.</summary>
    internal bool UsesHead { get; init; } = true;

    /// <summary>Called with the index of a layer after its backward pass; null for nothing.</summary>
    internal Action<int>? Passed { get; set; }

    /// <summary>Bytes of shared weights that are in this rank's memory.</summary>
    internal long Bytes => Units.Sum(static u => u.Bytes);

    /// <summary>The flat tensors that have each shared tensor, and the place where it is used.</summary>
    internal IReadOnlyDictionary<Tensor, (FlatTensors Flat, int Place)> Homes
    {
        get
        {
            var homes = new Dictionary<Tensor, (FlatTensors, int)>(ReferenceEqualityComparer.Instance);
            for (var place = ILayerWeights.AheadOfLayers; place <= _layers.Count; place++)
            {
                foreach (var (flat, tensor) in Of(place).SelectMany(static u => u.Flats).SelectMany(static f => f.Tensors.Select(t => (f, t))))
                {
                    _ = homes.TryAdd(tensor, (flat, place));
                }
            }

            return homes;
        }
    }

    // A tied head is the embedding.
    private IEnumerable<SharedUnit> Units => _first.Concat(_layers).Concat(_last).Distinct();

    /// <inheritdoc/>
    public void Enter(int layer, bool isBackward)
    {
        var needed = Needed(layer);
        Gather(needed);

        // Gradients of the embedding need none of its values. The last layer is the first whose gradients are computed.
        var next = isBackward ? Math.Max(0, layer - 1) : layer + 1;
        SharedUnit[] kept = [.. needed, .. Needed(next), .. layer == _layers.Count ? Of(layer - 1) : []];
        foreach (var unit in Units.Except(kept))
        {
            unit.Free();
        }

        if (next != layer)
        {
            foreach (var unit in Needed(next))
            {
                unit.Begin();
            }
        }
    }

    /// <inheritdoc/>
    public void Leave(int layer, bool isBackward, bool returns)
    {
        if (isBackward)
        {
            Passed?.Invoke(layer);
        }

        if (!returns || layer < _layers.Count - 1)
        {
            _layers[layer].Free();
        }
    }

    /// <inheritdoc/>
    public bool HasAll => false;

    /// <inheritdoc/>
    public void BeginOwn() => _ = _ranks.Any(true, Model.Device);

    /// <inheritdoc/>
    public void TakePart()
    {
        while (_ranks.Any(false, Model.Device))
        {
            for (var place = ILayerWeights.AheadOfLayers; place <= _layers.Count; place++)
            {
                Enter(place, isBackward: false);
                if (place >= 0 && place < _layers.Count)
                {
                    Leave(place, isBackward: false, returns: false);
                }
            }
        }
    }

    /// <inheritdoc/>
    public void Show(string? name, bool writes = false)
    {
        int? place = name is null ? null : LayerBytes.PlaceOf(Model.Config, name);
        if (place is { } known && Of(known).Count == 0)
        {
            return;
        }

        if (_leads)
        {
            _ = _ranks.Gather([place ?? Ended], Model.Device);
        }

        if (_shown is { } shown && shown != place)
        {
            if (_isWritten)
            {
                Flats(shown).ForEach(static f => f.Keep());
            }

            Free(shown);
            (_shown, _isWritten) = (null, false);
        }

        if (place is { } wanted)
        {
            Gather(Of(wanted));
            (_shown, _isWritten) = (wanted, _isWritten || writes);
        }
    }

    /// <inheritdoc/>
    public void Complete(CausalLanguageModel model)
    {
        _model = model;
        if (model.Config is { TiedEmbeddings: true, Labels: null })
        {
            _last.Add(_first[0]);
        }
    }

    /// <summary>Does work of the first rank alone that reads weights, and what the others must do beside it.</summary>
    /// <param name="work">The work.</param>
    internal void Lead(Action work)
    {
        _leads = true;
        try
        {
            work();
        }
        finally
        {
            Show(null);
            _leads = false;
        }
    }

    /// <summary>Gathers what the first rank reads, until it is done.</summary>
    internal void Follow()
    {
        while (_ranks.Gather([Ended], Model.Device)[0][0] is var place and not Ended)
        {
            if (_shown is { } shown && shown != (int)place)
            {
                Free(shown);
            }

            Gather(Of((int)place));
            _shown = (int)place;
        }

        Show(null);
    }

    /// <summary>Frees all that was gathered.</summary>
    internal void FreeAll()
    {
        foreach (var unit in Units)
        {
            unit.Free();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var unit in Units)
        {
            unit.Dispose();
        }
    }

    /// <inheritdoc/>
    public void Made(nn.Module part) =>
        (part switch { DecoderLayer => _layers, TokenEmbedding => _first, _ => _last }).Add(new SharedUnit(_ranks, part));

    private IReadOnlyList<SharedUnit> Of(int place) => place < 0 ? _first : place < _layers.Count ? [_layers[place]] : _last;

    // What is computed with.
    private IReadOnlyList<SharedUnit> Needed(int place) => place == _layers.Count && !UsesHead ? [] : place > _layers.Count ? [] : Of(place);

    private List<FlatTensors> Flats(int place) => [.. Of(place).SelectMany(static u => u.Flats)];

    private void Free(int place)
    {
        foreach (var unit in Of(place))
        {
            unit.Free();
        }
    }

    private static void Gather(IReadOnlyList<SharedUnit> units)
    {
        foreach (var unit in units)
        {
            unit.Begin();
        }

        foreach (var unit in units)
        {
            unit.Gather();
        }
    }
}
