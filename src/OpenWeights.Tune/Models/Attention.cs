using OpenWeights.Tune.Models.Rope;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>Causal self-attention with grouped queries (Ainslie et al., 2023) and rotary positions.</summary>
public sealed class Attention : nn.Module<Tensor, AttentionContext, Tensor>
{
    [ComponentName(Name = "q_proj")]
    private readonly LinearLayer _query;

    [ComponentName(Name = "k_proj")]
    private readonly LinearLayer _key;

    [ComponentName(Name = "v_proj")]
    private readonly LinearLayer _value;

    [ComponentName(Name = "o_proj")]
    private readonly LinearLayer _output;

    private readonly int _layer;
    private readonly int _heads;
    private readonly int _keyValueHeads;
    private readonly int _headDimension;

    /// <summary>The attention of a layer.</summary>
    /// <param name="config">The decoder's settings.</param>
    /// <param name="weights">Where weights come from.</param>
    /// <param name="name">The module's name in the checkpoint.</param>
    /// <param name="layer">The layer's number, for the cache.</param>
    public Attention(DecoderConfig config, IWeightSource weights, string name, int layer)
        : base(nameof(Attention))
    {
        ArgumentNullException.ThrowIfNull(config);
        (_layer, _heads, _keyValueHeads, _headDimension) = (layer, config.HeadCount, config.KeyValueHeadCount, config.HeadDimension);
        var hidden = new Dimension("hidden_size", config.HiddenSize);
        var queries = new Dimension("num_attention_heads x head_dim", (long)_heads * _headDimension);
        var keys = new Dimension("num_key_value_heads x head_dim", (long)_keyValueHeads * _headDimension);
        _query = LinearLayer.Take(weights, $"{name}.q_proj", queries, hidden, config.QueryKeyValueBias);
        _key = LinearLayer.Take(weights, $"{name}.k_proj", keys, hidden, config.QueryKeyValueBias);
        _value = LinearLayer.Take(weights, $"{name}.v_proj", keys, hidden, config.QueryKeyValueBias);
        _output = LinearLayer.Take(weights, $"{name}.o_proj", hidden, queries, config.AttentionOutputBias);
        RegisterComponents();
    }

    /// <summary>[batch, tokens, hidden] to [batch, tokens, hidden].</summary>
    public override Tensor forward(Tensor input1, AttentionContext input2)
    {
        ArgumentNullException.ThrowIfNull(input1);
        ArgumentNullException.ThrowIfNull(input2);
        using var scope = NewDisposeScope();
        var (batch, tokens) = (input1.size(0), input1.size(1));
        var query = RotaryEmbedding.Rotate(Heads(_query.call(input1), _heads), input2.Cos, input2.Sin);
        var key = RotaryEmbedding.Rotate(Heads(_key.call(input1), _keyValueHeads), input2.Cos, input2.Sin);
        var value = Heads(_value.call(input1), _keyValueHeads);
        if (input2.Cache is not null)
        {
            (key, value) = input2.Cache.Append(_layer, key, value);
        }

        var causal = input2.Mask is null && !input2.LooksAtAll;
        var mixed = nn.functional.scaled_dot_product_attention(query, Repeat(key), Repeat(value), input2.Mask, 0, causal);
        return _output.call(mixed.transpose(1, 2).reshape(batch, tokens, _heads * _headDimension)).MoveToOuterDisposeScope();
    }

    private Tensor Heads(Tensor states, int heads) => states.view(states.size(0), states.size(1), heads, _headDimension).transpose(1, 2);

    /// <summary>Each key/value head once for every query head that looks at it.</summary>
    private Tensor Repeat(Tensor states)
    {
        if (_heads == _keyValueHeads)
        {
            return states;
        }

        var (batch, tokens) = (states.size(0), states.size(2));
        return states.unsqueeze(2).expand(batch, _keyValueHeads, _heads / _keyValueHeads, tokens, _headDimension).reshape(batch, _heads, tokens, _headDimension);
    }
}
