using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Quantization;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>
/// The weights of a model's layers, trained or frozen, of which each rank keeps a part (ZeRO-3, FSDP): a layer is gathered while it is computed, and the next one asked for
/// before. Embedding, final norm and head stay whole.
/// </summary>
internal sealed class SharedWeights : ILayerWeights, IDisposable
{
    private const double Ended = -1;

    private readonly RankGroup _ranks;
    private readonly List<Layer> _layers = [];
    private int? _shown;
    private bool _isWritten;
    private bool _leads;

    private CausalLanguageModel? _model;

    /// <summary>Shares out the layers that it is told of.</summary>
    /// <param name="ranks">The ranks.</param>
    internal SharedWeights(RankGroup ranks) => _ranks = ranks;

    /// <summary>Shares out the layers of a model.</summary>
    /// <param name="model">The model.</param>
    /// <param name="ranks">The ranks.</param>
    internal SharedWeights(CausalLanguageModel model, RankGroup ranks)
        : this(ranks)
    {
        foreach (var layer in model.Stack.Layers)
        {
            Made(layer);
        }

        Complete(model);
    }

    private CausalLanguageModel Model => _model ?? throw new InvalidOperationException("the model is not complete");

    /// <summary>Called with the index of a layer after its backward pass; null for nothing.</summary>
    internal Action<int>? Passed { get; set; }

    /// <summary>Bytes of the layers' weights that are in this rank's memory.</summary>
    internal long Bytes => _layers.Sum(static l => l.Flats.Sum(static f => f.Bytes));

    /// <summary>The flat tensors of a layer.</summary>
    /// <param name="layer">Index of the layer.</param>
    internal IReadOnlyList<FlatTensors> Of(int layer) => _layers[layer].Flats;

    /// <inheritdoc/>
    public void Enter(int layer, bool isBackward)
    {
        Gather(layer);
        var next = isBackward ? layer - 1 : layer + 1;
        for (var i = 0; i < _layers.Count; i++)
        {
            if (i != layer && i != next)
            {
                Free(i);
            }
        }

        if (next >= 0 && next < _layers.Count)
        {
            _layers[next].Flats.ForEach(static f => f.Begin());
        }
    }

    /// <inheritdoc/>
    public void Leave(int layer, bool isBackward, bool returns)
    {
        if (isBackward)
        {
            Passed?.Invoke(layer);
        }

        // The last layer is the first whose gradients are computed.
        if (!returns || layer < _layers.Count - 1)
        {
            Free(layer);
        }
    }

    /// <inheritdoc/>
    public void Show(string? name, bool writes = false)
    {
        var layer = name is null ? -1 : LayerBytes.PlaceOf(Model.Config, name);
        if (layer >= _layers.Count)
        {
            layer = -1;
        }

        if (_leads && (layer >= 0 || name is null))
        {
            _ = _ranks.Gather([name is null ? Ended : layer], Model.Device);
        }

        if (layer < 0 && name is not null)
        {
            return;
        }

        if (_shown is { } shown && shown != layer)
        {
            if (_isWritten)
            {
                _layers[shown].Flats.ForEach(static f => f.Keep());
            }

            Free(shown);
            (_shown, _isWritten) = (null, false);
        }

        if (layer >= 0)
        {
            Gather(layer);
            (_shown, _isWritten) = (layer, _isWritten || writes);
        }
    }

    /// <inheritdoc/>
    public void Complete(CausalLanguageModel model) => _model = model;

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
        while (_ranks.Gather([Ended], Model.Device)[0][0] is var layer and >= 0)
        {
            if (_shown is { } shown && shown != (int)layer)
            {
                Free(shown);
            }

            Gather((int)layer);
            _shown = (int)layer;
        }

        Show(null);
    }

    /// <summary>Frees all layers.</summary>
    internal void FreeAll()
    {
        for (var i = 0; i < _layers.Count; i++)
        {
            Free(i);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _layers.ForEach(static l => l.Flats.ForEach(static f => f.Dispose()));

    /// <inheritdoc/>
    public void Made(DecoderLayer layer)
    {
        var modules = layer.named_modules().Select(static m => m.module).ToList();
        QuantizedWeight[] quantized =
        [
            .. modules.OfType<LinearLayer>().Select(static l => l.Quantized).OfType<QuantizedWeight>(),
            .. modules.OfType<StackedExperts>().SelectMany(static e => e.Matrices).SelectMany(static m => m.Quantized ?? []),
        ];
        var movable = quantized.Where(static q => q.Movable is not null).ToList();
        List<Tensor> tensors = [.. layer.named_parameters().Select(static p => (Tensor)p.parameter), .. layer.named_buffers().Select(static b => b.buffer), .. movable.SelectMany(static q => q.Movable!)];
        _layers.Add(new Layer([.. tensors.GroupBy(static t => t.dtype).Select(g => new FlatTensors(_ranks, [.. g]))], movable));
        movable.ForEach(static q => q.Moved());
    }

    private void Gather(int layer)
    {
        var was = _layers[layer].Flats.TrueForAll(static f => f.IsWhole);
        _layers[layer].Flats.ForEach(static f => f.Begin());
        _layers[layer].Flats.ForEach(static f => f.Gather());
        if (!was)
        {
            _layers[layer].Quantized.ForEach(static q => q.Moved());
        }
    }

    private void Free(int layer)
    {
        if (_layers[layer].Flats.Exists(static f => f.Bytes > f.Part.numel() * f.Part.element_size()))
        {
            _layers[layer].Flats.ForEach(static f => f.Free());
            _layers[layer].Quantized.ForEach(static q => q.Moved());
        }
    }

    private sealed record Layer(List<FlatTensors> Flats, List<QuantizedWeight> Quantized);
}
