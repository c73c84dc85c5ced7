using OpenWeights.Tune.Layers.Rope;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>Causal self-attention with grouped queries (Ainslie et al., 2023) and rotary position embedding.</summary>
internal sealed class SelfAttention : TokenMixer
{
    // Registered under the checkpoint's names, which differ among families, so they are not fields registered by field name.
    private readonly Parts _parts;
    private readonly ScaledDotProductAttention _scores;
    private readonly AttentionHeadShape _shape;

    /// <summary>Creates the attention of a layer.</summary>
    /// <param name="settings">Settings of the block.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the module in the checkpoint.</param>
    public SelfAttention(AttentionSettings settings, IWeightSource weights, string name)
        : base(nameof(SelfAttention))
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(weights);
        Settings = settings;
        _shape = new AttentionHeadShape(settings);
        _scores = new ScaledDotProductAttention(settings);
        var (names, shape) = (settings.Names, _shape);
        var hidden = new Dimension("hidden_size", settings.HiddenSize);
        LinearLayer Add(string layer, Dimension output, Dimension input, bool hasBias) => this.Register(layer, LinearLayer.Take(weights, $"{name}.{layer}", output, input, hasBias));
        LinearLayer AddInput(string layer, Dimension output) => Add(layer, output, hidden, settings.QueryKeyValueBias);
        LinearLayer[] heads = settings.Projections == QueryKeyValueLayout.Separate
            ?
            [
                AddInput(names.Query, shape.QueryOutputs), .. HasKeys ? [AddInput(names.Key, shape.Keys)] : Array.Empty<LinearLayer>(),
                .. HasKeys && !settings.ValuesAreKeys ? [AddInput(names.Value, shape.Values)] : Array.Empty<LinearLayer>(),
            ]
            : [AddInput(names.Fused, shape.AllOutputs)];
        var gate = shape.GateOutputs is { } gates ? Add(names.Gate, gates, hidden, hasBias: false) : null;
        var output = Add(names.Output, hidden, shape.Mixed, settings.OutputBias);
        Norm? AddNorm(string norm, Dimension count, Dimension all) => settings.QueryKeyNorm == QueryKeyNorm.None ? null : this.Register(norm, TakeNorm($"{name}.{norm}", count, all, weights));
        var queryNorm = AddNorm(names.QueryNorm, new Dimension("num_attention_heads", settings.HeadCount), shape.Queries);
        var keyNorm = !HasKeys ? null : AddNorm(names.KeyNorm, new Dimension("num_key_value_heads", settings.KeyValueHeadCount), shape.Keys);
        var sinks = settings.HasSinks ? weights.Take($"{name}.{names.Sinks}", InitialWeight.Zeros, new Dimension("num_attention_heads", settings.HeadCount)) : null;
        if (sinks is not null)
        {
            register_parameter(names.Sinks, sinks);
        }

        var valueNorm = HasKeys && settings.NormalizesValues ? this.Register("v_norm", new RmsNorm(settings.ValueWidth, (RmsNormSettings)settings.Norm with { HasWeight = false })) : null;
        _parts = new Parts(heads, gate, output, queryNorm, keyNorm, valueNorm, sinks);
    }

    internal override Tensor Run(Tensor states, Norm? norm, LayerContext context)
    {
        using var scope = NewDisposeScope();
        var (batch, tokens) = (states.size(0), states.size(1));
        var (query, keyValue, gate) = Project(states, norm);
        query = Rotate(query, _parts.QueryNorm, context);
        if (Settings.QueryScaling is { } scaling)
        {
            query = scaling.Apply(query, context.Positions!);
        }

        Tensor[] inputs = keyValue is { } made ? [query, Rotate(made.Key, _parts.KeyNorm, context), made.Value] : [query];
        var mixed = context.ByText(inputs, 2, Attend).transpose(1, 2);
        if (Settings.OutputGate == OutputGate.PerHead)
        {
            mixed = mixed.mul(gate!.sigmoid().unsqueeze(-1));
        }

        var flat = mixed.reshape(batch, tokens, _shape.Mixed.Size);
        return _parts.Output.call(gate is null || Settings.OutputGate == OutputGate.PerHead ? flat : flat.mul(gate.sigmoid())).MoveToOuterDisposeScope();
    }

    internal override LayerState NewState() => new KeyValueState(Settings.Window);

    internal override long StateBytes(CachedTexts texts, long size) => !HasKeys ? 0 : texts.Rows * (_shape.Keys.Size + _shape.Values.Size) * KeyValueState.Capacity(Settings.Window, texts) * size;

    /// <summary>Settings of the block.</summary>
    internal AttentionSettings Settings { get; }

    // Rotated queries and keys, values, queries and keys before their norm, and gates; and the attention output, the input of the output projection.
    internal override KeptElements Kept
    {
        get
        {
            var (queries, keys, values, mixed) = (_shape.Queries.Size, _shape.Keys.Size, _shape.Values.Size, _shape.Mixed.Size);
            var gates = Settings.OutputGate switch
            {
                OutputGate.None => 0,
                OutputGate.PerHead => mixed + Settings.HeadCount,
                _ => 2 * mixed,
            };
            var norms = (_parts.QueryNorm is null ? 0 : queries) + (_parts.KeyNorm is null ? 0 : keys) + (_parts.ValueNorm is null ? 0 : values);
            var own = queries + (HasKeys ? keys + values : 0);
            return new KeptElements(
                new(own + gates + norms),
                [new KeptInput([_parts.Output], mixed, IsMadeAgain: false), new KeptInput(Inputs, Settings.HiddenSize, IsMadeAgain: true)],
                [TokenMemory.OfLinear(Settings.HiddenSize, own), ScaledDotProductAttention.Working(Settings.HeadDimension) + new TokenMemory(own + mixed)],
                Mixed: mixed);
        }
    }

    /// <summary>Query, key and value projections: three, or one if fused.</summary>
    internal LinearLayer[] QueryKeyValue => _parts.Heads;

    /// <summary>The output projection.</summary>
    internal LinearLayer Output => _parts.Output;

    /// <summary>The attention sinks, [heads]; null for none.</summary>
    internal Tensor? Sinks => _parts.Sinks;

    /// <summary>Norms of queries and keys, and whether each normalizes all heads together; null for none.</summary>
    internal (Norm Query, Norm Key, bool OfAllHeads)? Norms => _parts.QueryNorm is null ? null : (_parts.QueryNorm, _parts.KeyNorm!, NormsAllHeads);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _scores.Dispose();
        }

        base.Dispose(disposing);
    }

    private bool HasKeys => Settings.KeysOf is null;

    private bool NormsAllHeads => Settings.QueryKeyNorm == QueryKeyNorm.AllHeads;

    private LinearLayer[] Inputs => _parts.Gate is null ? _parts.Heads : [.. _parts.Heads, _parts.Gate];

    private Norm TakeNorm(string name, Dimension count, Dimension all, IWeightSource weights)
    {
        var head = new Dimension("head_dim", Settings.HeadDimension);
        return Settings.QueryKeyNorm switch
        {
            QueryKeyNorm.AllHeads => Settings.Norm.Take(weights, name, all),
            QueryKeyNorm.EachHead => Settings.Norm.TakeHeads(weights, name, count, head),
            _ => Settings.Norm.Take(weights, name, head),
        };
    }

    // Queries by head, [batch, heads, tokens, head_dim], the same of keys and values if they are not another layer's, and the gate of the output,
    // in the caller's dispose scope.
    private (Tensor Query, (Tensor Key, Tensor Value)? KeyValue, Tensor? Gate) Project(Tensor states, Norm? norm)
    {
        var parts = LinearLayer.Outputs(states, norm, Inputs);
        var gate = _parts.Gate is null ? null : parts[^1];
        var (query, key, value) = Settings.Projections switch
        {
            QueryKeyValueLayout.Separate when !HasKeys => (parts[0], null, null),
            QueryKeyValueLayout.Separate => (parts[0], parts[1], Settings.ValuesAreKeys ? parts[1] : parts[2]),
            QueryKeyValueLayout.Fused => Three(parts[0].split([_shape.QueryOutputs.Size, _shape.Keys.Size, _shape.Values.Size], -1)),
            _ => Three(parts[0].unflatten(2, [Settings.HeadCount, -1]).split([Settings.HeadDimension, Settings.HeadDimension, Settings.ValueWidth], -1)),
        };
        if (Settings.OutputGate == OutputGate.InQuery)
        {
            var both = query.unflatten(2, [Settings.HeadCount, -1]).chunk(2, -1);
            (query, gate) = (both[0].flatten(-2), both[1].flatten(-2));
        }

        var queries = Heads(query, Settings.HeadCount, _parts.QueryNorm);
        return key is null || value is null
            ? (queries, null, gate)
            : (queries, (Heads(key, Settings.KeyValueHeadCount, _parts.KeyNorm), Heads(Multiplied(value), Settings.KeyValueHeadCount, _parts.ValueNorm, isValue: true)), gate);
    }

    // Attention of rotated queries, with rotated keys and values if they are not another layer's.
    private Tensor Attend(IReadOnlyList<Tensor> own, LayerContext context)
    {
        var (key, value) = own.Count > 1 ? Remembered(own[1], own[2], context) : (context.Borrowed!.Keys!, context.Borrowed.Values!);
        return _scores.Attend(own[0], key, value, context, _parts.Sinks);
    }

    // Rotated keys with their values, those of earlier tokens before them, and lent to later layers if they use them.
    private static (Tensor Key, Tensor Value) Remembered(Tensor key, Tensor value, LayerContext context)
    {
        if (context.VirtualKeys is { } given)
        {
            (key, value) = (Begun(key, given[0]), Begun(value, given[1]));
        }

        if (context.State is IKeyValues held)
        {
            (key, value) = held.Append(key, value);
        }

        context.Lent?.Note(key, value);
        return (key, value);
    }

    // The first tokens are virtual ones, whose keys and values are given.
    private static Tensor Begun(Tensor own, Tensor given)
    {
        var count = given.size(1);
        return cat([given.to(own.dtype).unsqueeze(0).expand(own.size(0), -1, -1, -1), own.narrow(2, count, own.size(2) - count)], 2);
    }

    private static (Tensor First, Tensor? Second, Tensor? Third) Three(Tensor[] parts) => (parts[0], parts[1], parts[2]);

    private Tensor Multiplied(Tensor value)
    {
        if (Settings.ValueMultiplier == 1)
        {
            return value;
        }

        using Scalar factor = Settings.ValueMultiplier;
        return value.mul(factor);
    }

    private Tensor Heads(Tensor states, int heads, Norm? norm, bool isValue = false)
    {
        var early = Settings.NormalizesRotated && !isValue ? null : norm;
        var ofAllHeads = NormsAllHeads && !isValue;
        if (early is not null && ofAllHeads)
        {
            states = early.call(states);
        }

        var split = states.reshape(states.size(0), states.size(1), heads, -1);
        split = early is not null && !ofAllHeads ? early.call(split) : split;
        if (Settings.ProjectionLimit is { } limit)
        {
            using Scalar least = -limit;
            using Scalar most = limit;
            split = split.clamp(least, most);
        }

        return split.transpose(1, 2);
    }

    // Rotated queries or keys, normalized after that if the settings say so.
    private Tensor Rotate(Tensor states, Norm? norm, LayerContext context)
    {
        var interleaved = Settings.Rope?.Interleaved == true;
        var rotated = RotaryEmbedding.Rotate(states, context.Cos, context.Sin, interleaved);
        if (norm is null || !Settings.NormalizesRotated)
        {
            return rotated;
        }

        return norm.call(interleaved && norm.Slots.Count > 0 ? RotaryEmbedding.Interleave(rotated, 2 * context.Cos!.size(-1)) : rotated);
    }

    private sealed record Parts(LinearLayer[] Heads, LinearLayer? Gate, LinearLayer Output, Norm? QueryNorm, Norm? KeyNorm, Norm? ValueNorm, Parameter? Sinks);
}

/// <summary>Widths of the projections of an attention block.</summary>
internal sealed class AttentionHeadShape(AttentionSettings settings)
{
    /// <summary>All queries of a token.</summary>
    internal Dimension Queries { get; } = new("num_attention_heads x head_dim", (long)settings.HeadCount * settings.HeadDimension);

    /// <summary>All keys of a token.</summary>
    internal Dimension Keys { get; } = new("num_key_value_heads x head_dim", (long)settings.KeyValueHeadCount * settings.HeadDimension);

    /// <summary>All values of a token.</summary>
    internal Dimension Values { get; } = settings.ValueHeadDimension is { } width
        ? new("num_key_value_heads x v_head_dim", (long)settings.KeyValueHeadCount * width)
        : new("num_key_value_heads x head_dim", (long)settings.KeyValueHeadCount * settings.HeadDimension);

    /// <summary>What all query heads found.</summary>
    internal Dimension Mixed { get; } = settings.ValueHeadDimension is { } width
        ? new("num_attention_heads x v_head_dim", (long)settings.HeadCount * width)
        : new("num_attention_heads x head_dim", (long)settings.HeadCount * settings.HeadDimension);

    /// <summary>Output of the query projection, which may include gates.</summary>
    internal Dimension QueryOutputs => settings.OutputGate == OutputGate.InQuery ? new("2 x num_attention_heads x head_dim", 2 * Queries.Size) : Queries;

    /// <summary>Output of the projection to gates; null if there is none.</summary>
    internal Dimension? GateOutputs => settings.OutputGate switch
    {
        OutputGate.PerElement => Mixed,
        OutputGate.PerHead => new Dimension("num_attention_heads", settings.HeadCount),
        _ => null,
    };

    /// <summary>Output of the fused projection.</summary>
    internal Dimension AllOutputs => new("(num_attention_heads + 2 num_key_value_heads) x head_dim", QueryOutputs.Size + Keys.Size + Values.Size);
}
