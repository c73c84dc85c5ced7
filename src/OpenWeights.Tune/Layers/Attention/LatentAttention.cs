using OpenWeights.Tune.Layers.Rope;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>
/// Multi-head latent attention (DeepSeek-AI, 2024): the keys and values of all heads are made from one latent for each token, and the cache
/// holds only that and the rotated part of the key, which all heads share.
/// </summary>
internal sealed class LatentAttention : TokenMixer
{
    [ComponentName(Name = "q_proj")]
    private readonly LinearLayer? _query;

    [ComponentName(Name = "q_a_proj")]
    private readonly LinearLayer? _queryDown;

    [ComponentName(Name = "q_a_layernorm")]
    private readonly Norm? _queryNorm;

    [ComponentName(Name = "q_b_proj")]
    private readonly LinearLayer? _queryUp;

    [ComponentName(Name = "kv_a_proj_with_mqa")]
    private readonly LinearLayer _down;

    [ComponentName(Name = "kv_a_layernorm")]
    private readonly Norm _norm;

    [ComponentName(Name = "kv_b_proj")]
    private readonly LinearLayer _up;

    [ComponentName(Name = "o_proj")]
    private readonly LinearLayer _output;

    private readonly LatentAttentionSettings _settings;
    private readonly ScaledDotProductAttention _scores;
    private readonly ScaledDotProductAttention _latentScores;

    /// <summary>Creates the attention of a layer.</summary>
    /// <param name="settings">Settings of the block.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the module in the checkpoint.</param>
    public LatentAttention(LatentAttentionSettings settings, IWeightSource weights, string name)
        : base(nameof(LatentAttention))
    {
        ArgumentNullException.ThrowIfNull(settings);
        _settings = settings;
        _scores = new ScaledDotProductAttention(Heads(settings, settings.HeadCount, settings.KeyWidth));
        _latentScores = new ScaledDotProductAttention(Heads(settings, 1, settings.LatentWidth + settings.RotatedWidth));
        var hidden = new Dimension("hidden_size", settings.HiddenSize);
        var queries = new Dimension("num_attention_heads x (qk_nope_head_dim + qk_rope_head_dim)", (long)settings.HeadCount * settings.KeyWidth);
        var latent = new Dimension("kv_lora_rank", settings.LatentWidth);
        if (settings.QueryRank is { } width)
        {
            var rank = new Dimension("q_lora_rank", width);
            _queryDown = LinearLayer.Take(weights, $"{name}.q_a_proj", rank, hidden, settings.HasBias);
            _queryNorm = settings.Norm.Take(weights, $"{name}.q_a_layernorm", rank);
            _queryUp = LinearLayer.Take(weights, $"{name}.q_b_proj", queries, rank, hasBias: false);
        }
        else
        {
            _query = LinearLayer.Take(weights, $"{name}.q_proj", queries, hidden, hasBias: false);
        }

        var held = new Dimension("kv_lora_rank + qk_rope_head_dim", settings.LatentWidth + settings.RotatedWidth);
        var all = new Dimension("num_attention_heads x (qk_nope_head_dim + v_head_dim)", (long)settings.HeadCount * (settings.PlainWidth + settings.ValueWidth));
        _down = LinearLayer.Take(weights, $"{name}.kv_a_proj_with_mqa", held, hidden, settings.HasBias);
        _norm = settings.Norm.Take(weights, $"{name}.kv_a_layernorm", latent);
        _up = LinearLayer.Take(weights, $"{name}.kv_b_proj", all, latent, hasBias: false);
        _output = LinearLayer.Take(weights, $"{name}.o_proj", hidden, new Dimension("num_attention_heads x v_head_dim", (long)settings.HeadCount * settings.ValueWidth), settings.HasBias);
        RegisterComponents();
    }

    // Queries, keys and values by head; the inputs of the two norms; and the attention output, the input of the output projection.
    internal override KeptElements Kept
    {
        get
        {
            var (heads, rank) = ((long)_settings.HeadCount, _settings.QueryRank ?? 0);
            LinearLayer[] first = [_query ?? _queryDown!, _down];
            KeptInput[] ofQueryUp = _queryUp is null ? [] : [new KeptInput([_queryUp], rank, IsMadeAgain: true)];
            var (widest, expanded) = (Math.Max(_settings.KeyWidth, _settings.ValueWidth), heads * (_settings.PlainWidth + _settings.ValueWidth));
            return new KeptElements(
                new((heads * 3 * widest) + rank + _settings.LatentWidth),
                [
                    new KeptInput([_output], heads * _settings.ValueWidth, IsMadeAgain: false), new KeptInput([_up], _settings.LatentWidth, IsMadeAgain: true),
                    .. ofQueryUp, new KeptInput(first, _settings.HiddenSize, IsMadeAgain: true),
                ],
                [
                    TokenMemory.OfLinear(_settings.HiddenSize, (heads * 3 * widest) + expanded), ScaledDotProductAttention.Working(widest) + new TokenMemory(heads * 4 * widest),
                ],
                Mixed: heads * widest);
        }
    }

    internal override Tensor Run(Tensor states, Norm? norm, LayerContext context)
    {
        using var scope = NewDisposeScope();
        var (batch, tokens) = (states.size(0), states.size(1));
        var first = LinearLayer.Outputs(states, norm, _query ?? _queryDown!, _down);
        var queries = _queryUp is null ? first[0] : LinearLayer.Outputs(first[0], _queryNorm, _queryUp)[0];
        var query = queries.view(batch, tokens, _settings.HeadCount, _settings.KeyWidth).transpose(1, 2);
        query = _settings.QueryScaling?.Apply(query, context.Positions!) ?? query;
        var plain = query.narrow(-1, 0, _settings.PlainWidth);
        var rotated = Rotate(query.narrow(-1, _settings.PlainWidth, _settings.RotatedWidth), context);
        var latent = first[1].narrow(-1, 0, _settings.LatentWidth).contiguous();
        var shared = Rotate(first[1].narrow(-1, _settings.LatentWidth, _settings.RotatedWidth).unsqueeze(1), context);
        var mixed = context.HasState
            ? context.ByText([plain, rotated, cat([_norm.call(latent).unsqueeze(1), shared], -1)], 2, AttendToHeld)
            : Attend(plain, rotated, LinearLayer.Outputs(latent, _norm, _up)[0], shared, context);
        return _output.call(mixed.transpose(1, 2).reshape(batch, tokens, (long)_settings.HeadCount * _settings.ValueWidth)).MoveToOuterDisposeScope();
    }

    internal override LayerState NewState() => new LatentState(_settings.SlidingWindow);

    internal override long StateBytes(CachedTexts texts, long size) =>
        texts.Rows * (_settings.LatentWidth + _settings.RotatedWidth) * KeyValueState.Capacity(_settings.SlidingWindow, texts) * size;

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _scores.Dispose();
            _latentScores.Dispose();
        }

        base.Dispose(disposing);
    }

    // Attention with the keys and values of each head; values are those of the heads, [batch, heads, tokens, v_head_dim].
    private Tensor Attend(Tensor plain, Tensor rotated, Tensor expanded, Tensor shared, LayerContext context)
    {
        using var scope = NewDisposeScope();
        var (heads, keys) = (_settings.HeadCount, shared.size(2));
        var byHead = expanded.view(expanded.size(0), keys, heads, _settings.PlainWidth + _settings.ValueWidth).transpose(1, 2);
        var key = cat([byHead.narrow(-1, 0, _settings.PlainWidth), shared.expand(-1, heads, -1, -1)], -1);
        var value = byHead.narrow(-1, _settings.PlainWidth, _settings.ValueWidth);
        return _scores.Attend(cat([plain, rotated], -1), key, value, context).MoveToOuterDisposeScope();
    }

    // For a few tokens the latents are not expanded to the keys and values of all heads. Queries are multiplied by the matrix of the keys
    // instead, and the mixed latents by that of the values: the same products in another order.
    private Tensor AttendToHeld(IReadOnlyList<Tensor> own, LayerContext context)
    {
        using var scope = NewDisposeScope();
        var (plain, rotated, held) = (own[0], own[1], (LatentState)context.State!);
        var latents = held.Append(own[2]);
        var (rank, tokens) = (_settings.LatentWidth, plain.size(2));
        if (is_grad_enabled() || 2 * tokens > _settings.PlainWidth + _settings.ValueWidth)
        {
            return Attend(plain, rotated, _up.call(latents.narrow(-1, 0, rank).squeeze(1)), latents.narrow(-1, rank, _settings.RotatedWidth), context).MoveToOuterDisposeScope();
        }

        var matrix = held.Expansion(_up, plain).view(_settings.HeadCount, _settings.PlainWidth + _settings.ValueWidth, rank);
        var query = cat([plain.matmul(matrix.narrow(1, 0, _settings.PlainWidth)), rotated], -1);
        var mixed = _latentScores.Attend(query, latents, latents, context).narrow(-1, 0, rank);
        return mixed.matmul(matrix.narrow(1, _settings.PlainWidth, _settings.ValueWidth).transpose(1, 2)).MoveToOuterDisposeScope();
    }

    private Tensor Rotate(Tensor states, LayerContext context) => RotaryEmbedding.Rotate(states, context.Cos, context.Sin, _settings.Rope?.Interleaved == true);

    private static AttentionSettings Heads(LatentAttentionSettings settings, int keyValueHeads, int width) => new()
    {
        HiddenSize = settings.HiddenSize,
        HeadCount = settings.HeadCount,
        KeyValueHeadCount = keyValueHeads,
        HeadDimension = width,
        Scale = settings.Scale,
        Norm = settings.Norm,
        SlidingWindow = settings.SlidingWindow,
    };
}

/// <summary>Latents of the tokens processed by a layer's latent attention, each with the rotated part of its key.</summary>
/// <param name="window">Sliding window: number of tokens that a token attends to, including itself; null for all.</param>
internal sealed class LatentState(int? window) : LayerState
{
    private readonly KeyValueState _tokens = new(window);
    private Tensor? _expansion;

    /// <inheritdoc/>
    public override long ByteLength => _tokens.ByteLength;

    /// <summary>Appends the latents of new tokens, [batch, 1, tokens, width]; returns those that the new tokens attend to.</summary>
    internal Tensor Append(Tensor latents)
    {
        var (held, nothing) = _tokens.Append(latents, latents.narrow(-1, 0, 0));
        nothing.Dispose();
        return held;
    }

    /// <summary>
    /// The matrix from latents to keys and values, [out, in], in the caller's dispose scope. One that is quantized or has an adapter is
    /// computed once.
    /// </summary>
    /// <param name="layer">The layer.</param>
    /// <param name="like">A tensor of the model's dtype on its device.</param>
    internal Tensor Expansion(LinearLayer layer, Tensor like)
    {
        if (layer.Quantized is null && layer.Adapter is null)
        {
            return layer.Weight.alias();
        }

        if (_expansion is null)
        {
            using var scope = NewDisposeScope();
            _expansion = layer.call(Identity(layer.InFeatures, like)).t().contiguous().DetachFromDisposeScope();
        }

        return _expansion.alias();
    }

    internal override bool CanTruncate(int length) => _tokens.CanTruncate(length);

    internal override void Truncate(int length) => _tokens.Truncate(length);

    internal override void Select(long[] rows) => _tokens.Select(rows);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        _tokens.Dispose();
        _expansion?.Dispose();
        _expansion = null;
    }

    private static Tensor Identity(long size, Tensor like)
    {
        using var places = arange(size, int64, like.device);
        return places.unsqueeze(0).eq(places.unsqueeze(1)).to(like.dtype);
    }
}
