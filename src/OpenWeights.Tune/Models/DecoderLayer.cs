using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Layers.FeedForward;
using TorchSharp;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>A layer: attention and feed-forward, each with its norms, added to the residual stream.</summary>
public sealed class DecoderLayer : nn.Module<Tensor, AttentionContext, Tensor>
{
    [ComponentName(Name = "input_layernorm")]
    private readonly RmsNorm? _inputNorm;

    [ComponentName(Name = "self_attn")]
    private readonly SelfAttention _attention;

    [ComponentName(Name = "post_attention_layernorm")]
    private readonly RmsNorm _postAttentionNorm;

    [ComponentName(Name = "pre_feedforward_layernorm")]
    private readonly RmsNorm? _preFeedForwardNorm;

    [ComponentName(Name = "post_feedforward_layernorm")]
    private readonly RmsNorm? _postFeedForwardNorm;

    // Named by the checkpoint, so not fields that would be registered by a name of their own.
    private readonly (GatedFeedForward? Plain, MixtureOfExperts? Mixture) _feedForward;
    private readonly bool _before;
    private readonly bool _after;
    private readonly Scalar _residual;

    /// <summary>A layer of the decoder.</summary>
    /// <param name="config">The decoder's settings.</param>
    /// <param name="weights">Where weights come from.</param>
    /// <param name="name">The layer's name in the checkpoint, such as model.layers.0.</param>
    /// <param name="layer">The layer's number.</param>
    public DecoderLayer(DecoderConfig config, IWeightSource weights, string name, int layer)
        : base(nameof(DecoderLayer))
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(weights);
        var hidden = new Dimension("hidden_size", config.HiddenSize);
        RmsNorm Norm(string norm) => RmsNorm.Take(weights, $"{name}.{norm}", hidden, config.Norm);
        _before = config.NormPlacement != NormPlacement.After;
        _after = config.NormPlacement != NormPlacement.Before;
        _residual = config.ResidualMultiplier;
        _inputNorm = _before ? Norm("input_layernorm") : null;
        _attention = new SelfAttention(config.Attention, weights, $"{name}.self_attn", layer);

        // Llama calls the norm before the feed-forward what later families call the one after attention.
        _postAttentionNorm = Norm("post_attention_layernorm");
        _preFeedForwardNorm = _before && _after ? Norm("pre_feedforward_layernorm") : null;
        _postFeedForwardNorm = _after ? Norm("post_feedforward_layernorm") : null;
        RegisterComponents();
        if (config.Layer(layer).Mixture is { } mixture)
        {
            _feedForward.Mixture = new MixtureOfExperts(config.FeedForward, mixture, weights, $"{name}.{mixture.ModuleName}");
            register_module(mixture.ModuleName, _feedForward.Mixture);
        }
        else
        {
            var inner = new Dimension("intermediate_size", config.IntermediateSize);
            _feedForward.Plain = new GatedFeedForward(config.FeedForward, weights, $"{name}.mlp", inner, FeedForwardNames.Usual);
            register_module("mlp", _feedForward.Plain);
        }
    }

    /// <summary>The layer's attention.</summary>
    internal SelfAttention Attention => _attention;

    /// <summary>The layer's feed-forward; null where it is a mixture of experts.</summary>
    internal GatedFeedForward? FeedForward => _feedForward.Plain;

    /// <summary>The norms before and after attention and the feed-forward, each null where there is none.</summary>
    internal (RmsNorm? BeforeAttention, RmsNorm? AfterAttention, RmsNorm? BeforeFeedForward, RmsNorm? AfterFeedForward) Norms =>
        (_inputNorm, _after ? _postAttentionNorm : null, _before ? _preFeedForwardNorm ?? _postAttentionNorm : null, _postFeedForwardNorm);

    /// <summary>[batch, tokens, hidden] to [batch, tokens, hidden].</summary>
    public override Tensor forward(Tensor input1, AttentionContext input2)
    {
        ArgumentNullException.ThrowIfNull(input1);
        ArgumentNullException.ThrowIfNull(input2);
        using var scope = NewDisposeScope();
        var attended = _attention.Run(input1, _inputNorm, input2);
        var states = input1.add(_after ? _postAttentionNorm.call(attended) : attended, _residual);
        var norm = !_before ? null : _preFeedForwardNorm ?? _postAttentionNorm;
        var fed = _feedForward.Plain?.Run(states, norm, wantsValues: !input2.OnlyForGradients || _postFeedForwardNorm is not null) ?? _feedForward.Mixture!.call(norm?.call(states) ?? states, input2);
        return states.add(_postFeedForwardNorm?.call(fed) ?? fed, _residual).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _residual.Dispose();
        }

        base.Dispose(disposing);
    }
}
