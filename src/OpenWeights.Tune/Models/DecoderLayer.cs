using OpenWeights.Tune.Models.Steps;
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
    private readonly Attention _attention;

    [ComponentName(Name = "post_attention_layernorm")]
    private readonly RmsNorm _postAttentionNorm;

    [ComponentName(Name = "pre_feedforward_layernorm")]
    private readonly RmsNorm? _preFeedForwardNorm;

    [ComponentName(Name = "post_feedforward_layernorm")]
    private readonly RmsNorm? _postFeedForwardNorm;

    // Named by the checkpoint, so not fields that would be registered by a name of their own.
    private readonly (FeedForward? Plain, MixtureOfExperts? Mixture) _feedForward;
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
        RmsNorm Norm(string norm) => RmsNorm.Take(weights, $"{name}.{norm}", hidden, config);
        _before = config.NormPlacement != NormPlacement.After;
        _after = config.NormPlacement != NormPlacement.Before;
        _residual = config.ResidualMultiplier;
        _inputNorm = _before ? Norm("input_layernorm") : null;
        _attention = new Attention(config, weights, $"{name}.self_attn", layer);

        // Llama calls the norm before the feed-forward what later families call the one after attention.
        _postAttentionNorm = Norm("post_attention_layernorm");
        _preFeedForwardNorm = _before && _after ? Norm("pre_feedforward_layernorm") : null;
        _postFeedForwardNorm = _after ? Norm("post_feedforward_layernorm") : null;
        RegisterComponents();
        if (config.Layer(layer).Mixture is { } mixture)
        {
            _feedForward.Mixture = new MixtureOfExperts(config, mixture, weights, $"{name}.{mixture.ModuleName}");
            register_module(mixture.ModuleName, _feedForward.Mixture);
        }
        else
        {
            var inner = new Dimension("intermediate_size", config.IntermediateSize);
            _feedForward.Plain = new FeedForward(config, weights, $"{name}.mlp", inner, FeedForwardNames.Usual);
            register_module("mlp", _feedForward.Plain);
        }
    }

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

    /// <summary>Its part in a step of a few rows; null where a part of it is computed otherwise.</summary>
    /// <param name="config">The decoder's settings.</param>
    /// <param name="rows">How many rows.</param>
    /// <param name="dtype">The model's dtype.</param>
    /// <param name="rope">The rotary cosines and sines; null where the layer has no positions.</param>
    internal StepLayer? Step(DecoderConfig config, int rows, ScalarType dtype, StepRope? rope)
    {
        if (_attention.Step(config, rows, dtype, rope) is not { } attention || _feedForward.Plain?.Step(rows, dtype) is not { } feedForward)
        {
            return null;
        }

        return new StepLayer
        {
            Before = _inputNorm?.Step(),
            Heads = attention.Heads,
            Attention = attention.Attention,
            Output = attention.Output,
            AfterAttention = _after ? _postAttentionNorm.Step() : null,
            BeforeFeedForward = _before ? (_preFeedForwardNorm ?? _postAttentionNorm).Step() : null,
            GateAndUp = feedForward.GateAndUp,
            Down = feedForward.Down,
            Activation = config.Activation,
            AfterFeedForward = _postFeedForwardNorm?.Step(),
            Residual = (float)config.ResidualMultiplier,
        };
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
