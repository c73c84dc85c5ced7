using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Projections;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Training;

/// <summary>
/// The bytes that a decoder layer keeps of a token for its backward, tensor by tensor as the functions in Models save them. Whoever changes
/// what one of those saves changes its line here.
/// </summary>
internal sealed class LayerMemory
{
    private const int Float32 = 4;

    private readonly DecoderConfig _config;
    private readonly int _layer;
    private readonly long _size;
    private readonly List<(string Name, LinearLayer Layer)> _linear;

    /// <summary>The account of a layer.</summary>
    /// <param name="model">The model, with its adapter on.</param>
    /// <param name="layer">The layer's number.</param>
    internal LayerMemory(CausalLanguageModel model, int layer)
    {
        (_config, _layer) = (model.Config, layer);
        _size = model.Stack.Embedding.Weight.element_size();
        var prefix = FormattableString.Invariant($"model.layers.{layer}.");
        _linear = [.. model.LinearLayers.Where(l => l.Name.StartsWith(prefix, StringComparison.Ordinal))];
        IsTrained = _linear.Exists(static l => l.Layer.Adapter is not null)
            || model.named_parameters().Any(p => p.parameter.requires_grad && p.name.StartsWith(prefix, StringComparison.Ordinal));
    }

    /// <summary>Whether anything of the layer is trained.</summary>
    internal bool IsTrained { get; }

    /// <summary>What is kept of the layer's attention alone where the layer is computed again.</summary>
    internal long Mixed => Queries * _size;

    /// <summary>Everything that is kept.</summary>
    internal long Bytes => ((States + Attention + Inputs + AfterNorms + FeedForward) * _size) + _linear.Sum(static l => OfAdapter(l.Layer));

    private long Hidden => _config.HiddenSize;

    private long Queries => (long)_config.HeadCount * _config.HeadDimension;

    private long Keys => (long)_config.KeyValueHeadCount * _config.HeadDimension;

    // The residual stream before attention and before the feed-forward, which norms keep.
    private long States => 2 * Hidden;

    // Rotated queries and keys, values, and queries and keys before their norm.
    private long Attention => Queries + (2 * Keys) + (_config.QueryKeyNorm == QueryKeyNorm.None ? 0 : Queries + Keys);

    // What a linear layer reads where its weight or adapter needs it for a gradient and it is not made again from what is kept anyway:
    // the mixed values; norms' outputs and the gated product only of layers whose adapter does more than add a low-rank update.
    private long Inputs =>
        (NeedsInput("o_proj") ? Queries : 0) + (IsComposed("q_proj", "k_proj", "v_proj", "qkv_proj") ? Hidden : 0)
        + (IsComposed("gate_proj", "up_proj", "gate_up_proj") ? Hidden : 0) + (IsComposed("down_proj") ? _config.ActiveIntermediateSize(_layer) : 0);

    // What norms after attention and feed-forward read.
    private long AfterNorms => _config.NormPlacement == NormPlacement.Before ? 0 : 2 * Hidden;

    // Gate and up; and where experts do it, their inputs, their outputs and the weighted sum.
    private long FeedForward =>
        (2 * _config.ActiveIntermediateSize(_layer)) + (_config.Layer(_layer).Mixture is { } mixture ? (3 * mixture.ExpertsPerToken * Hidden) + Hidden : 0);

    private bool NeedsInput(string name) => _linear.Exists(l => l.Name.EndsWith(name, StringComparison.Ordinal) && (IsComposed(l.Layer) || new Projection(l.Layer).NeedsInput));

    private bool IsComposed(params ReadOnlySpan<string> names)
    {
        foreach (var name in names)
        {
            if (_linear.Exists(l => l.Name.EndsWith(name, StringComparison.Ordinal) && IsComposed(l.Layer)))
            {
                return true;
            }
        }

        return false;
    }

    private static bool IsComposed(LinearLayer layer) => !Projection.Serves(layer) || layer.Adapter is LoraLayer { Dropout: > 0 };

    // A x; with dropout its mask and the input that it leaves, in float32; with DoRA the output that its magnitude multiplies.
    private static long OfAdapter(LinearLayer layer) => layer.Adapter is not LoraLayer lora ? 0
        : Float32 * (lora.A.size(0) + (lora.Dropout > 0 ? 2 * layer.InFeatures : 0) + (lora.Magnitude is null ? 0 : layer.OutFeatures));
}
