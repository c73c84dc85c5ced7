using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.FeedForward;
using OpenWeights.Tune.Layers.Projections;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>
/// Settings of inputs that each layer has besides the residual stream: an embedding of the token for each layer, and a projection of the
/// embedding that all share (Gemma 3n and 4).
/// </summary>
internal sealed record PerLayerInputSettings : FeedForwardSettings
{
    /// <summary>Its layers are the decoder layer's own.</summary>
    public override string ModuleName { get; init; } = "";

    /// <summary>Width of the residual stream.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Width of a layer's input (hidden_size_per_layer_input).</summary>
    public required int Width { get; init; }

    /// <summary>Number of layers.</summary>
    public required int LayerCount { get; init; }

    /// <summary>Number of tokens that have such embeddings (vocab_size_per_layer_input); the others have those of token 0.</summary>
    public required int VocabularySize { get; init; }

    /// <summary>Activation function of the gate.</summary>
    public required Activation Activation { get; init; }

    /// <summary>Settings of the norms.</summary>
    public required NormSettings Norm { get; init; }

    /// <summary>The width, and the setting of config.json that determines it.</summary>
    internal Dimension Inner => new("hidden_size_per_layer_input", Width);

    internal override LayerPart Make(IWeightSource weights, string name) => new PerLayerInputBlock(this, weights, name);
}

/// <summary>Computes the inputs that each layer has besides the residual stream.</summary>
internal sealed class PerLayerInputs
{
    private readonly PerLayerInputSettings _settings;
    private readonly TokenEmbedding _embedding;
    private readonly LinearLayer _projection;
    private readonly Norm _norm;

    /// <summary>Creates the modules, and registers them.</summary>
    /// <param name="owner">The decoder.</param>
    /// <param name="settings">Their settings.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the decoder in the checkpoint.</param>
    public PerLayerInputs(nn.Module owner, PerLayerInputSettings settings, IWeightSource weights, string name)
    {
        ArgumentNullException.ThrowIfNull(owner);
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(weights);
        _settings = settings;
        var all = new Dimension("num_hidden_layers x hidden_size_per_layer_input", (long)settings.LayerCount * settings.Width);
        var vocabulary = new Dimension("vocab_size_per_layer_input", settings.VocabularySize);
        _embedding = owner.Register("embed_tokens_per_layer", new TokenEmbedding(weights.Take($"{name}.embed_tokens_per_layer.weight", InitialWeight.Normal, vocabulary, all)));
        weights.Made(_embedding);
        _projection = owner.Register(
            "per_layer_model_projection", LinearLayer.Take(weights, $"{name}.per_layer_model_projection", all, new Dimension("hidden_size", settings.HiddenSize), hasBias: false));
        _norm = owner.Register("per_layer_projection_norm", settings.Norm.Take(weights, $"{name}.per_layer_projection_norm", settings.Inner));
    }

    /// <summary>The inputs of all layers, [batch, tokens, layers, width], in the caller's dispose scope.</summary>
    /// <param name="ids">Token ids, [batch, tokens], int64.</param>
    /// <param name="embeddings">The embeddings, [batch, tokens, hidden].</param>
    internal Tensor Compute(Tensor ids, Tensor embeddings)
    {
        using var scope = NewDisposeScope();
        using Scalar size = _settings.VocabularySize;
        var known = ids.mul(ids.lt(size).to(int64));
        var ofTokens = Times(_embedding.call(known), Math.Sqrt(_settings.Width));
        var ofStates = Times(_projection.call(embeddings), 1 / Math.Sqrt(_settings.HiddenSize));
        Tensor ByLayer(Tensor states) => states.view(ids.size(0), ids.size(1), _settings.LayerCount, _settings.Width);
        return Times(_norm.call(ByLayer(ofStates)).Plus(ByLayer(ofTokens)), 1 / Math.Sqrt(2)).MoveToOuterDisposeScope();
    }

    // With a factor of the states' dtype, as in the reference.
    private static Tensor Times(Tensor states, double factor)
    {
        using Scalar value = factor;
        return states.mul(ones([1], WideNumbers.Of(states.dtype), states.device).mul(value).to(states.dtype));
    }
}

/// <summary>Adds a layer's own input to its states: projection(act(gate(x)) · input).</summary>
internal sealed class PerLayerInputBlock : LayerPart
{
    private readonly PerLayerInputSettings _settings;
    private readonly LinearLayer[] _gate;
    private readonly LinearLayer[] _projection;

    /// <summary>Creates the part.</summary>
    /// <param name="settings">Its settings.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the layer in the checkpoint.</param>
    public PerLayerInputBlock(PerLayerInputSettings settings, IWeightSource weights, string name)
        : base(nameof(PerLayerInputBlock))
    {
        ArgumentNullException.ThrowIfNull(settings);
        _settings = settings;
        var hidden = new Dimension("hidden_size", settings.HiddenSize);
        _gate = [this.Register("per_layer_input_gate", LinearLayer.Take(weights, $"{name}.per_layer_input_gate", settings.Inner, hidden, hasBias: false))];
        _projection = [this.Register("per_layer_projection", LinearLayer.Take(weights, $"{name}.per_layer_projection", hidden, settings.Inner, hasBias: false))];
    }

    // The gate and the input; their product is recomputed.
    internal override KeptElements Kept => new(
        new(2 * _settings.Width),
        [new KeptInput(_gate, _settings.HiddenSize, IsMadeAgain: false), new KeptInput(_projection, _settings.Width, IsMadeAgain: true)],
        [TokenMemory.OfLinear(_settings.HiddenSize, _settings.Width)]);

    internal override Tensor Run(Tensor states, Norm? norm, LayerContext context)
    {
        using var scope = NewDisposeScope();
        var (gate, input) = (LinearLayer.Outputs(states, norm, _gate)[0], context.PerLayerInput!.contiguous());
        var output = ProjectionGroup.Serves(_projection)
            ? ProjectionGroup.Run(new GatedInput(gate, input, _settings.Activation), wantsValues: !context.OnlyForGradients, _projection)[0]
            : _projection[0].call(GatedActivation.Of(gate, input, _settings.Activation));
        return output.MoveToOuterDisposeScope();
    }
}
