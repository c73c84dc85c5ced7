using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>Self-attention of one new token per row over the cached tokens and itself.</summary>
/// <param name="settings">Settings of the attention.</param>
/// <param name="heads">The query, key and value projections.</param>
/// <param name="output">The output projection.</param>
/// <param name="norms">Norms of queries and keys, and whether they normalize all heads together; null for none.</param>
/// <param name="rope">Rotary table; null without rotary embedding.</param>
/// <param name="sinks">Attention sink of each query head; null for none.</param>
internal sealed unsafe class DecodeAttention(
    AttentionSettings settings, DecodeProducts heads, DecodeProducts output, (DecodeNorm Query, DecodeNorm Key, bool AllHeads)? norms, DecodeRope? rope, DecodeBuffer? sinks) : IDecodePart
{
    private readonly DecodeHeads _shape = new(settings.HeadCount, settings.KeyValueHeadCount, settings.HeadDimension);
    private readonly float _scale = (float)settings.Scale;
    private readonly float? _cap = (float?)settings.ScoreSoftCap;
    private readonly nint _allWidth = (settings.HeadCount + (2 * settings.KeyValueHeadCount)) * settings.HeadDimension;
    private CacheSlot _slot;
    private DecodeLayerPlace _place;

    /// <inheritdoc/>
    public int Stages => 6;

    /// <inheritdoc/>
    public IReadOnlyList<nint> Widths => [_allWidth, _shape.Heads * _shape.Width];

    private nint Group => _shape.Heads / _shape.KeyValueHeads;

    /// <summary>The attention of a module; null if a norm or projection of it is not supported.</summary>
    internal static DecodeAttention? Of(SelfAttention module, DecodePlan plan)
    {
        if (!Serves(module.Settings))
        {
            return null;
        }

        (DecodeNorm, DecodeNorm, bool)? norms = null;
        if (module.Norms is var (query, key, ofAllHeads))
        {
            if (DecodeNorm.Of(query) is not { } queryNorm || DecodeNorm.Of(key) is not { } keyNorm)
            {
                return null;
            }

            norms = (queryNorm, keyNorm, ofAllHeads);
        }

        return plan.Products(module.QueryKeyValue) is { } heads && plan.Products(module.Output) is { } output
            ? new DecodeAttention(module.Settings, heads, output, norms, plan.Rope(module.Settings.Rope, module.Settings.HeadDimension), module.Sinks is { } sinks ? DecodeBuffer.Of(sinks) : null)
            : null;
    }

    // Other settings are computed by the module itself.
    private static bool Serves(AttentionSettings settings) =>
        settings is { Projections: not QueryKeyValueLayout.FusedByHead, OutputGate: OutputGate.None, ProjectionLimit: null, NormalizesValues: false, ValuesAreKeys: false, KeysOf: null } && settings.ValueWidth == settings.HeadDimension
        && !(settings is { NormalizesRotated: true, Rope.Interleaved: true, QueryKeyNorm: not QueryKeyNorm.None });

    /// <inheritdoc/>
    public void Begin(DecodeState state, int layer)
    {
        if (state.Tables is { } tables)
        {
            _place = tables.Layer(layer);
            state.WantScores(_shape.Heads, tables.Longest + 1);
            return;
        }

        _slot = ((KeyValueState)state.Cache!.StateOf(layer)!).Reserve();
        state.WantScores(_shape.Heads, _slot.Seen + 1);
    }

    /// <inheritdoc/>
    public int Parts(int stage, DecodeState state) => stage switch
    {
        0 => heads.InnerParts(state.Threads),
        1 => heads.Parts(heads.Columns, state.Threads),
        2 => state.RowParts,
        3 => LookingParts(state),
        4 => output.InnerParts(state.Threads),
        _ => output.Parts(output.Columns, state.Threads),
    };

    /// <inheritdoc/>
    public void Run(int stage, int part, DecodeState state)
    {
        var parts = Parts(stage, state);
        switch (stage)
        {
            case 0:
                heads.RunInner(part, parts, state.Normed);
                break;
            case 1:
                heads.Run(heads.Columns * part / parts, heads.Columns * (part + 1) / parts, state.Normed, Heads(state));
                break;
            case 2:
                Turn(state, part);
                break;
            case 3:
                Attend(state, part, parts);
                break;
            case 4:
                output.RunInner(part, parts, Mixed(state));
                break;
            default:
                output.Run(output.Columns * part / parts, output.Columns * (part + 1) / parts, Mixed(state), state.Given);
                break;
        }
    }

    /// <inheritdoc/>
    public bool Fetch(int stage, int thread, int threads) => stage switch
    {
        1 => heads.Fetch(0, heads.Columns, (thread, threads)),
        5 => output.Fetch(0, output.Columns, (thread, threads)),
        _ => false,
    };

    /// <inheritdoc/>
    public void Finish(int stage, DecodeState state)
    {
        if (stage == 2 && state.RowParts == 0)
        {
            Turn(state, 0);
        }
    }

    // Query, key and value heads.
    private FloatRows Heads(DecodeState state) => state.Work(0, _allWidth);

    // Outputs of the query heads.
    private FloatRows Mixed(DecodeState state) => state.Work(1, _shape.Heads * _shape.Width);

    // One part per key/value head with its query heads or, if that leaves threads idle, one part per query head.
    private int LookingParts(DecodeState state)
    {
        var tasks = state.RowCount * _shape.KeyValueHeads;
        return (int)(tasks % state.Threads == 0 || tasks > 4 * state.Threads ? tasks : state.RowCount * _shape.Heads);
    }

    // Applies norms and rotary embedding to queries and keys of a row, and appends keys and values to the cache.
    private void Turn(DecodeState state, nint row)
    {
        var (queries, keys) = (_shape.Heads * _shape.Width, _shape.KeyValueHeads * _shape.Width);
        var each = Heads(state)[row];
        Normalise(each, state.Half, afterRope: false);
        for (nint head = 0; rope is not null && head < _shape.Heads + _shape.KeyValueHeads; head++)
        {
            rope.Turn(row, each + (head * _shape.Width), state.Half);
        }

        Normalise(each, state.Half, afterRope: true);
        if (settings.QueryScaling is { } scaling)
        {
            DecodeMath.Multiply(each, queries, DecodeMath.Round(Factor(scaling, state.Position(row)), state.Half), state.Half);
        }

        if (settings.ValueMultiplier != 1)
        {
            DecodeMath.Multiply(each + queries + keys, keys, (float)settings.ValueMultiplier, state.Half);
        }

        for (nint head = 0; head < _shape.KeyValueHeads; head++)
        {
            var (key, value, _) = Places(state, row, head, Seen(state, row));
            DecodeMath.Write(each + queries + (head * _shape.Width), _shape.Width, (void*)key.Start, state.Half);
            DecodeMath.Write(each + queries + keys + (head * _shape.Width), _shape.Width, (void*)value.Start, state.Half);
        }
    }

    // Attention of a part's query heads: softmax(q Kᵀ) V.
    private void Attend(DecodeState state, int part, int parts)
    {
        var count = state.RowCount * _shape.Heads / parts;
        var (row, head) = ((nint)part * count / _shape.Heads, (nint)part * count % _shape.Heads);
        var (first, end) = (FirstKey(state, row), Seen(state, row) + 1);
        var keys = end - first;
        var queries = new FloatRows((nint)(Heads(state)[row] + (head * _shape.Width)), _shape.Width, count);
        var scores = state.Scores(row, head, (_shape.Heads, count, keys));
        for (nint token = first, tokens; token < end; token += tokens)
        {
            (var matrix, _, tokens) = Places(state, row, head / Group, token);
            tokens = Math.Min(tokens, end - token);
            RowProduct.Run(matrix, 0, tokens, queries, scores.From(token - first));
        }

        var factors = stackalloc float[(int)count];
        for (nint i = 0; i < count; i++)
        {
            factors[i] = (float)(1 / Exponentials(scores[i], keys, head + i));
        }

        var mixed = new FloatRows((nint)(Mixed(state)[row] + (head * _shape.Width)), _shape.Width, count);
        for (nint token = first, tokens; token < end; token += tokens)
        {
            (_, var matrix, tokens) = Places(state, row, head / Group, token);
            tokens = Math.Min(tokens, end - token);
            Add(matrix, tokens, scores.From(token - first), mixed, isFirst: token == first);
        }

        for (nint i = 0; i < count; i++)
        {
            RowSoftmax.Scale(mixed[i], _shape.Width, factors[i]);
            DecodeMath.Round(mixed[i], _shape.Width, state.Half);
        }
    }

    // Adds the weighted sums of some values to those of earlier ones.
    private void Add(RowMatrix values, nint tokens, in FloatRows weights, in FloatRows sums, bool isFirst)
    {
        var part = stackalloc float[isFirst ? 0 : (int)_shape.Width];
        for (nint i = 0; i < sums.Count; i++)
        {
            RowProduct.WeightedSum(values, tokens, weights[i], isFirst ? sums[i] : part);
            if (!isFirst)
            {
                DecodeMath.Add(sums[i], part, 1, _shape.Width, half: false);
            }
        }
    }

    // Number of a row's earlier tokens.
    private nint Seen(DecodeState state, nint row) => state.Tables is { } tables ? tables.Length(row) : _slot.Seen;

    // The first of a row's tokens that are attended to.
    private nint FirstKey(DecodeState state, nint row)
    {
        var seen = Seen(state, row);
        var first = state.Tables is null ? state.Hidden(row, _slot) : settings.Window is { } window ? Math.Max(0, seen + 1 - window) : 0;

        // Tokens of earlier chunks are not.
        return settings.ChunkSize is { } chunk ? Math.Max(first, seen - (nint)(state.Position(row) % chunk)) : first;
    }

    // Keys and values of a row's head from a token on, and how many tokens follow each other there.
    private (RowMatrix Keys, RowMatrix Values, nint Tokens) Places(DecodeState state, nint row, nint head, nint token)
    {
        if (state.Tables is { } tables)
        {
            var (block, within) = (tables.Block(row, token), token % tables.BlockTokens);
            var place = (head * tables.BlockTokens) + within;
            return (Matrix(block + _place.Keys, state.Half).From(place), Matrix(block + _place.Values, state.Half).From(place), tables.BlockTokens - within);
        }

        var slot = (((row * _shape.KeyValueHeads) + head) * _slot.Capacity) + _slot.Start + token;
        return (Matrix(_slot.Keys, state.Half).From(slot), Matrix(_slot.Values, state.Half).From(slot), _slot.Seen + 1 - token);
    }

    private static float Factor(QueryScaling scaling, long position) =>
        1 + ((float)scaling.Weight * MathF.Log(1 + MathF.Floor((position + (float)scaling.Offset) / (float)scaling.Length)));

    private double Exponentials(float* scores, nint count, nint head)
    {
        RowSoftmax.Scale(scores, count, _scale);
        if (_cap is { } limit)
        {
            RowSoftmax.Limit(scores, count, limit);
        }

        if (sinks is null)
        {
            return RowSoftmax.Exponentials(scores, count);
        }

        var (sink, largest) = (sinks.Start[head], RowSoftmax.Largest(scores, count));
        largest = Math.Max(largest, sink);
        return RowSoftmax.Exponentials(scores, count, largest) + MathF.Exp(sink - largest);
    }

    private void Normalise(float* row, bool half, bool afterRope)
    {
        if (norms is { } n && settings.NormalizesRotated == afterRope)
        {
            var queries = _shape.Heads * _shape.Width;
            Normalise(n.Query, row, queries, n.AllHeads, half);
            Normalise(n.Key, row + queries, _shape.KeyValueHeads * _shape.Width, n.AllHeads, half);
        }
    }

    private void Normalise(DecodeNorm norm, float* row, nint count, bool together, bool half)
    {
        for (nint i = 0; i < count; i += together ? count : _shape.Width)
        {
            norm.Apply(row + i, row + i, half, i / _shape.Width);
        }
    }

    private RowMatrix Matrix(nint start, bool half) => new(start, _shape.Width, half);
}

/// <summary>Attention heads of a layer.</summary>
/// <param name="Heads">Number of query heads.</param>
/// <param name="KeyValueHeads">Number of key/value heads.</param>
/// <param name="Width">Head dimension.</param>
internal sealed record DecodeHeads(nint Heads, nint KeyValueHeads, nint Width);
