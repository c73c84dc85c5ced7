using OpenWeights.Tune.Layers.Rope;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>Causal self-attention with grouped queries (Ainslie et al., 2023) and rotary position embedding.</summary>
public sealed class SelfAttention : TokenMixer
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
    private readonly Norm? _queryNorm;

    [ComponentName(Name = "k_norm")]
    private readonly Norm? _keyNorm;

    private readonly int _heads;
    private readonly int _keyValueHeads;
    private readonly int _headDimension;
    private readonly bool _normsAllHeads;
    private readonly ScaledDotProductAttention _scores;

    /// <summary>Creates the attention of a layer.</summary>
    /// <param name="settings">Settings of the block.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the module in the checkpoint.</param>
    public SelfAttention(AttentionSettings settings, IWeightSource weights, string name)
        : base(nameof(SelfAttention))
    {
        ArgumentNullException.ThrowIfNull(settings);
        Settings = settings;
        (_heads, _keyValueHeads, _headDimension) = (settings.HeadCount, settings.KeyValueHeadCount, settings.HeadDimension);
        _normsAllHeads = settings.QueryKeyNorm == QueryKeyNorm.AllHeads;
        _scores = new ScaledDotProductAttention(settings);
        var hidden = new Dimension("hidden_size", settings.HiddenSize);
        var queries = new Dimension("num_attention_heads x head_dim", (long)_heads * _headDimension);
        var keys = new Dimension("num_key_value_heads x head_dim", (long)_keyValueHeads * _headDimension);
        if (settings.FusedProjections)
        {
            var all = new Dimension("(num_attention_heads + 2 num_key_value_heads) x head_dim", queries.Size + (2 * keys.Size));
            _fused = LinearLayer.Take(weights, $"{name}.qkv_proj", all, hidden, settings.QueryKeyValueBias);
        }
        else
        {
            _query = LinearLayer.Take(weights, $"{name}.q_proj", queries, hidden, settings.QueryKeyValueBias);
            _key = LinearLayer.Take(weights, $"{name}.k_proj", keys, hidden, settings.QueryKeyValueBias);
            _value = LinearLayer.Take(weights, $"{name}.v_proj", keys, hidden, settings.QueryKeyValueBias);
        }

        _output = LinearLayer.Take(weights, $"{name}.o_proj", hidden, queries, settings.OutputBias);
        if (settings.QueryKeyNorm != QueryKeyNorm.None)
        {
            var head = new Dimension("head_dim", _headDimension);
            _queryNorm = settings.Norm.Take(weights, $"{name}.q_norm", _normsAllHeads ? queries : head);
            _keyNorm = settings.Norm.Take(weights, $"{name}.k_norm", _normsAllHeads ? keys : head);
        }

        RegisterComponents();
    }

    internal override Tensor Run(Tensor states, Norm? norm, LayerContext context)
    {
        using var scope = NewDisposeScope();
        var (batch, tokens) = (states.size(0), states.size(1));
        var (query, key, value) = Project(states, norm);
        query = RotaryEmbedding.Rotate(query, context.Cos, context.Sin);
        key = RotaryEmbedding.Rotate(key, context.Cos, context.Sin);
        if (context.State is KeyValueState held)
        {
            (key, value) = held.Append(key, value);
        }

        var mixed = _scores.Attend(query, key, value, context);
        return _output.call(mixed.transpose(1, 2).reshape(batch, tokens, _heads * _headDimension)).MoveToOuterDisposeScope();
    }

    internal override LayerState NewState() => new KeyValueState(Settings.SlidingWindow);

    /// <summary>Settings of the block.</summary>
    internal AttentionSettings Settings { get; }

    // Rotated queries and keys, values, and queries and keys before their norm; and the attention output, the input of the output projection.
    internal override KeptElements Kept
    {
        get
        {
            var (queries, keys) = ((long)_heads * _headDimension, (long)_keyValueHeads * _headDimension);
            return new KeptElements(
                queries + (2 * keys) + (_queryNorm is null ? 0 : queries + keys),
                [new KeptInput([_output], queries, IsMadeAgain: false), new KeptInput(QueryKeyValue, Settings.HiddenSize, IsMadeAgain: true)],
                Mixed: queries);
        }
    }

    /// <summary>Query, key and value projections: three, or one if fused.</summary>
    internal LinearLayer[] QueryKeyValue => _fused is null ? [_query!, _key!, _value!] : [_fused];

    /// <summary>The output projection.</summary>
    internal LinearLayer Output => _output;

    /// <summary>Norms of queries and keys, and whether each normalizes all heads together; null for none.</summary>
    internal (Norm Query, Norm Key, bool OfAllHeads)? Norms => _queryNorm is null ? null : (_queryNorm, _keyNorm!, _normsAllHeads);

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
    private (Tensor Query, Tensor Key, Tensor Value) Project(Tensor states, Norm? norm)
    {
        long keys = (long)_keyValueHeads * _headDimension;
        IReadOnlyList<Tensor> parts = _fused is null
            ? LinearLayer.Outputs(states, norm, _query!, _key!, _value!)
            : LinearLayer.Outputs(states, norm, _fused)[0].split([(long)_heads * _headDimension, keys, keys], -1);
        return (Heads(parts[0], _heads, _queryNorm), Heads(parts[1], _keyValueHeads, _keyNorm), Heads(parts[2], _keyValueHeads, null));
    }

    private Tensor Heads(Tensor states, int heads, Norm? norm)
    {
        if (norm is not null && _normsAllHeads)
        {
            states = norm.call(states);
        }

        var split = states.reshape(states.size(0), states.size(1), heads, _headDimension);
        return (norm is not null && !_normsAllHeads ? norm.call(split) : split).transpose(1, 2);
    }
}
