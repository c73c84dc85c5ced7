using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Projections;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Training;

/// <summary>Bytes per token that a decoder layer stores for backward, as reported by its parts (<see cref="LayerPart.Kept"/>).</summary>
internal sealed class LayerMemory
{
    private const int Float32 = 4;

    private readonly DecoderLayer _layer;
    private readonly long _size;
    private readonly List<LinearLayer> _linear;
    private readonly List<KeptElements> _parts;

    /// <summary>Creates the estimate of a layer.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="layer">Index of the layer.</param>
    internal LayerMemory(CausalLanguageModel model, int layer)
    {
        _layer = model.Stack.Layers[layer];
        _size = model.Stack.Embedding.Weight.element_size();
        var prefix = $"{model.Config.Names.Layer(layer)}.";
        _linear = [.. model.LinearLayers.Where(l => l.Name.StartsWith(prefix, StringComparison.Ordinal)).Select(static l => l.Layer)];
        _parts = [.. _layer.Parts().Select(static p => p.Part.Kept)];
        IsTrained = _linear.Exists(static l => l.Adapter is not null)
            || model.ExpertMatrices.Any(m => m.Matrix.Updates.Count > 0 && m.Name.StartsWith(prefix, StringComparison.Ordinal))
            || model.named_parameters().Any(p => p.parameter.requires_grad && p.name.StartsWith(prefix, StringComparison.Ordinal));
    }

    /// <summary>Whether any parameter of the layer is trained.</summary>
    internal bool IsTrained { get; }

    /// <summary>What is stored of the layer's token mixer if the layer is recomputed.</summary>
    internal long Mixed => _parts.Sum(static p => p.Mixed) * _size;

    /// <summary>Everything that is stored.</summary>
    internal long Bytes => ((States + _parts.Sum(static p => p.Always + p.Inputs.Sum(OfInput))) * _size) + _linear.Sum(OfAdapter);

    // The residual stream before each part, stored by its norm, and the inputs of norms after a part.
    private long States => _layer.KeptOfStreams + (_layer.Settings.HiddenSize * (_parts.Count + _layer.Parts().Count(static p => p.After is not null)));

    // Inputs of linear layers needed for gradients of a weight or adapter; recomputable ones only for layers whose adapter
    // is more than a low-rank update.
    private static long OfInput(KeptInput input) => input.Layers.Any(l => IsComposed(l) || (!input.IsMadeAgain && new Projection(l).NeedsInput)) ? input.Width : 0;

    private static bool IsComposed(LinearLayer layer) => !Projection.Serves(layer) || layer.Adapter is LoraLayer { Dropout: > 0 };

    // A x; with dropout its mask and the masked input, in float32; with DoRA the output that its magnitude multiplies.
    private static long OfAdapter(LinearLayer layer) => layer.Adapter is LinearPart part ? Float32 * part.KeptPerToken
        : layer.Adapter is not LoraLayer lora ? 0
        : Float32 * (lora.A.size(0) + (lora.Dropout > 0 ? 2 * layer.InFeatures : 0) + (lora.Magnitude is null ? 0 : layer.OutFeatures));
}
