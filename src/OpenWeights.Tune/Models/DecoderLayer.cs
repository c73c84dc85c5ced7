using OpenWeights.Tune.Torch;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>A layer: attention and feed-forward, each behind its norm and added to the residual stream.</summary>
public sealed class DecoderLayer : nn.Module<Tensor, AttentionContext, Tensor>
{
    [ComponentName(Name = "input_layernorm")]
    private readonly RmsNorm _inputNorm;

    [ComponentName(Name = "self_attn")]
    private readonly Attention _attention;

    [ComponentName(Name = "post_attention_layernorm")]
    private readonly RmsNorm _postAttentionNorm;

    [ComponentName(Name = "mlp")]
    private readonly FeedForward _feedForward;

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
        RmsNorm Norm(string norm) => new(weights.Take($"{name}.{norm}.weight", InitialWeight.Ones, hidden), config.NormEpsilon);
        _inputNorm = Norm("input_layernorm");
        _attention = new Attention(config, weights, $"{name}.self_attn", layer);
        _postAttentionNorm = Norm("post_attention_layernorm");
        _feedForward = new FeedForward(config, weights, $"{name}.mlp");
        RegisterComponents();
    }

    /// <summary>[batch, tokens, hidden] to [batch, tokens, hidden].</summary>
    public override Tensor forward(Tensor input1, AttentionContext input2)
    {
        ArgumentNullException.ThrowIfNull(input1);
        using var scope = NewDisposeScope();
        var states = input1.Plus(_attention.call(_inputNorm.call(input1), input2));
        return states.Plus(_feedForward.call(_postAttentionNorm.call(states))).MoveToOuterDisposeScope();
    }
}
