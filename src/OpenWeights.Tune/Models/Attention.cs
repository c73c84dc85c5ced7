using OpenWeights.Tune.Models.Rope;
using OpenWeights.Tune.Models.Steps;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>Causal self-attention with grouped queries (Ainslie et al., 2023) and rotary positions.</summary>
public sealed class Attention : nn.Module<Tensor, AttentionContext, Tensor>
{
    [ComponentName(Name = "q_proj")]
    private readonly LinearLayer? _query;

    [ComponentName(Name = "k_proj")]
    private readonly LinearLayer? _key;

    [ComponentName(Name = "v_proj")]
    private readonly LinearLayer? _value;

    [ComponentName(Name = "qkv_proj")]
    private readonly LinearLayer? _fused;

    [ComponentName(Name = "o_proj")]
    private readonly LinearLayer _output;

    [ComponentName(Name = "q_norm")]
    private readonly RmsNorm? _queryNorm;

    [ComponentName(Name = "k_norm")]
    private readonly RmsNorm? _keyNorm;

    private readonly int _layer;
    private readonly int _heads;
    private readonly int _keyValueHeads;
    private readonly int _headDimension;
    private readonly bool _normsAllHeads;
    private readonly ScaledScores _scores;

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
        _normsAllHeads = config.QueryKeyNorm == QueryKeyNorm.AllHeads;
        _scores = new ScaledScores(config);
        var hidden = new Dimension("hidden_size", config.HiddenSize);
        var queries = new Dimension("num_attention_heads x head_dim", (long)_heads * _headDimension);
        var keys = new Dimension("num_key_value_heads x head_dim", (long)_keyValueHeads * _headDimension);
        if (config.FusedProjections)
        {
            var all = new Dimension("(num_attention_heads + 2 num_key_value_heads) x head_dim", queries.Size + (2 * keys.Size));
            _fused = LinearLayer.Take(weights, $"{name}.qkv_proj", all, hidden, config.QueryKeyValueBias);
        }
        else
        {
            _query = LinearLayer.Take(weights, $"{name}.q_proj", queries, hidden, config.QueryKeyValueBias);
            _key = LinearLayer.Take(weights, $"{name}.k_proj", keys, hidden, config.QueryKeyValueBias);
            _value = LinearLayer.Take(weights, $"{name}.v_proj", keys, hidden, config.QueryKeyValueBias);
        }

        _output = LinearLayer.Take(weights, $"{name}.o_proj", hidden, queries, config.AttentionOutputBias);
        if (config.QueryKeyNorm != QueryKeyNorm.None)
        {
            var head = new Dimension("head_dim", _headDimension);
            _queryNorm = RmsNorm.Take(weights, $"{name}.q_norm", _normsAllHeads ? queries : head, config);
            _keyNorm = RmsNorm.Take(weights, $"{name}.k_norm", _normsAllHeads ? keys : head, config);
        }

        RegisterComponents();
    }

    /// <summary>[batch, tokens, hidden] to [batch, tokens, hidden].</summary>
    public override Tensor forward(Tensor input1, AttentionContext input2)
    {
        ArgumentNullException.ThrowIfNull(input1);
        ArgumentNullException.ThrowIfNull(input2);
        return Run(input1, null, input2);
    }

    /// <summary>The attention of states.</summary>
    /// <param name="states">[batch, tokens, hidden].</param>
    /// <param name="norm">What normalises them first, or null.</param>
    /// <param name="context">Who may look at whom.</param>
    internal Tensor Run(Tensor states, RmsNorm? norm, AttentionContext context)
    {
        using var scope = NewDisposeScope();
        var (batch, tokens) = (states.size(0), states.size(1));
        var (query, key, value) = Project(states, norm);
        query = RotaryEmbedding.Rotate(query, context.Cos, context.Sin);
        key = RotaryEmbedding.Rotate(key, context.Cos, context.Sin);
        if (context.Cache is not null)
        {
            (key, value) = context.Cache.Append(_layer, key, value, context.SlidingWindow);
        }

        var mixed = _scores.Mix(query, key, value, context);
        return _output.call(mixed.transpose(1, 2).reshape(batch, tokens, _heads * _headDimension)).MoveToOuterDisposeScope();
    }

    /// <summary>Its part in a step of a few rows; null where a layer of it is computed otherwise.</summary>
    /// <param name="config">The decoder's settings.</param>
    /// <param name="rows">How many rows.</param>
    /// <param name="dtype">The model's dtype.</param>
    /// <param name="rope">The rotary cosines and sines; null where the layer has no positions.</param>
    internal (StepProducts Heads, StepAttention Attention, StepProducts Output)? Step(DecoderConfig config, int rows, ScalarType dtype, StepRope? rope)
    {
        var heads = _fused is null ? StepProducts.Of(rows, dtype, _query!, _key!, _value!) : StepProducts.Of(rows, dtype, _fused);
        if (heads is null || StepProducts.Of(rows, dtype, _output) is not { } output)
        {
            return null;
        }

        var shape = new StepHeads(_layer, _heads, _keyValueHeads, _headDimension);
        (StepNorm, StepNorm, bool)? norms = _queryNorm is null ? null : (_queryNorm.Step(), _keyNorm!.Step(), _normsAllHeads);
        return (heads, new StepAttention(shape, norms, rope, (float)config.AttentionScale, (float?)config.ScoreSoftCap), output);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _scores.Dispose();
        }

        base.Dispose(disposing);
    }

    // Queries, keys and values by head, [batch, heads, tokens, head_dim], in the caller's dispose scope.
    private (Tensor Query, Tensor Key, Tensor Value) Project(Tensor states, RmsNorm? norm)
    {
        long keys = (long)_keyValueHeads * _headDimension;
        IReadOnlyList<Tensor> parts = _fused is null
            ? LinearLayer.Outputs(states, norm, _query!, _key!, _value!)
            : LinearLayer.Outputs(states, norm, _fused)[0].split([(long)_heads * _headDimension, keys, keys], -1);
        return (Heads(parts[0], _heads, _queryNorm), Heads(parts[1], _keyValueHeads, _keyNorm), Heads(parts[2], _keyValueHeads, null));
    }

    private Tensor Heads(Tensor states, int heads, RmsNorm? norm)
    {
        if (norm is not null && _normsAllHeads)
        {
            states = norm.call(states);
        }

        var split = states.reshape(states.size(0), states.size(1), heads, _headDimension);
        return (norm is not null && !_normsAllHeads ? norm.call(split) : split).transpose(1, 2);
    }
}
