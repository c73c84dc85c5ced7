using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Projections;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Training;

/// <summary>What a decoder layer stores for backward, and what that needs besides, as reported by its parts (<see cref="LayerPart.Kept"/>).</summary>
internal sealed class LayerMemory
{
    private const int Float32 = 4;

    private readonly long _size;
    private readonly long _tokens;
    private readonly long _rows;
    private readonly long _stream;
    private readonly long _before;
    private readonly int _streams;
    private readonly List<(long Kept, KeptElements Elements, long OfUpdate)> _parts;

    /// <summary>Creates the estimate of a layer.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="index">Index of the layer.</param>
    /// <param name="tokens">Number of tokens.</param>
    /// <param name="rows">Number of rows that they are in.</param>
    internal LayerMemory(CausalLanguageModel model, int index, long tokens, long rows = 1)
    {
        var layer = model.Stack.Layers[index];
        _size = model.Stack.Embedding.Weight.element_size();
        (_tokens, _rows) = (tokens, rows);
        _stream = tokens * layer.Settings.HiddenSize * _size;
        _streams = model.Config.Streams?.Count ?? 1;
        _before = tokens * layer.KeptOfStreams * _size;
        _parts = [.. layer.Parts().Select(p => (Kept(p.Part) + ((p.After is null ? 1 : 2) * _stream), p.Part.Kept, OfUpdate(p.Part)))];
        var prefix = $"{model.Config.Names.Layer(index)}.";
        IsTrained = model.LinearLayers.Any(l => l.Layer.Adapter is not null && l.Name.StartsWith(prefix, StringComparison.Ordinal))
            || model.ExpertMatrices.Any(m => m.Matrix.Updates.Count > 0 && m.Name.StartsWith(prefix, StringComparison.Ordinal))
            || model.AdaptableModules.Any(m => m.Name.StartsWith(prefix, StringComparison.Ordinal) && ((IWeighted)m.Module).Slots.Any(static s => s.Replacement?.requires_grad == true))
            || model.named_parameters().Any(p => p.parameter.requires_grad && p.name.StartsWith(prefix, StringComparison.Ordinal));
    }

    /// <summary>Whether any parameter of the layer is trained.</summary>
    internal bool IsTrained { get; }

    /// <summary>Bytes that are stored of the layer's token mixer if the layer is recomputed.</summary>
    internal long Mixed => _parts.Sum(static p => p.Elements.Mixed) * _tokens * _size;

    /// <summary>Bytes of the layer's input.</summary>
    internal long Input => _stream * _streams;

    /// <summary>Bytes that are stored in all.</summary>
    internal long Bytes => _before + _parts.Sum(static p => p.Kept);

    /// <summary>
    /// The largest sum, over the parts, of the bytes that the layer stores up to that part and what the part's backward needs besides.
    /// </summary>
    internal long Most
    {
        get
        {
            var (stored, most) = (_before, 0L);
            foreach (var (kept, elements, ofUpdate) in _parts)
            {
                stored += kept;
                most = Math.Max(most, stored + Math.Max(ofUpdate, elements.Working.Max(w => w.Bytes(_tokens, _size))));
            }

            // The gradient of the residual stream.
            return most + _stream;
        }
    }

    // An update that is a matrix of the weight's size exists while it is computed.
    private static long OfUpdate(LayerPart part) =>
        Float32 * part.named_modules().Select(static m => m.module).OfType<LinearLayer>().Select(static l => l.Adapter is LinearPart adapter ? adapter.Working : 0).DefaultIfEmpty().Max();

    // What a part stores, besides the residual stream before it, stored by its norm, and the input of a norm after it.
    private long Kept(LayerPart part)
    {
        var kept = part.Kept;
        var layers = part.named_modules().Select(static m => m.module).OfType<LinearLayer>().ToList();
        return kept.Always.Bytes(_tokens, _size) + (Float32 * _tokens * (kept.OfRows?.Invoke(_rows) ?? 0)) + (_tokens * ((_size * kept.Inputs.Sum(OfInput)) + layers.Sum(OfAdapter))) + layers.Sum(static l => l.Adapter is LinearPart adapter ? Float32 * adapter.KeptOnce : 0);
    }

    // Inputs of linear layers needed for gradients of a weight or adapter; recomputable ones only for layers whose adapter
    // is more than a low-rank update.
    private static long OfInput(KeptInput input) => input.Layers.Any(l => IsComposed(l) || (!input.IsMadeAgain && new Projection(l).NeedsInput)) ? input.Width : 0;

    private static bool IsComposed(LinearLayer layer) => !Projection.Serves(layer) || layer.Adapter is LoraLayer { Dropout: > 0 };

    // A x; with dropout its mask and the masked input, in float32; with DoRA the output that its magnitude multiplies.
    private static long OfAdapter(LinearLayer layer) => layer.Adapter is LinearPart part ? Float32 * part.KeptPerToken
        : layer.Adapter is not LoraLayer lora ? 0
        : Float32 * (lora.A.size(0) + (lora.Dropout > 0 ? 2 * layer.InFeatures : 0) + (lora.Magnitude is null ? 0 : layer.OutFeatures));
}
