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
    private const int MostParts = 1 << 14;

    // Elements of values: a cache line in bfloat16.
    private const nint ColumnsOfPiece = 32;

    private readonly DecodeHeads _shape = new(settings.HeadCount, settings.KeyValueHeadCount, settings.HeadDimension);
    private readonly float _scale = (float)settings.Scale;
    private readonly float? _cap = (float?)settings.ScoreSoftCap;
    private readonly nint _allWidth = (settings.HeadCount + (2 * settings.KeyValueHeadCount)) * settings.HeadDimension;
    private CacheSlot _slot;
    private DecodeLayerPlace _place;
    private DecodeBuffer _factors = new(0);

    /// <inheritdoc/>
    public int Stages => 8;

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
        _factors = _factors.Count < state.RowCount * _shape.Heads ? new DecodeBuffer(state.RowCount * _shape.Heads) : _factors;
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
        3 => Tasks(state) * Pieces(state),
        4 => (int)(state.RowCount * _shape.Heads),
        5 => Tasks(state) * ColumnPieces(state),
        6 => output.InnerParts(state.Threads),
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
                Score(state, part);
                break;
            case 4:
                Weigh(state, part);
                break;
            case 5:
                Mix(state, part);
                break;
            case 6:
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
        7 => output.Fetch(0, output.Columns, (thread, threads)),
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

    // A key/value head of a row with its query heads.
    private int Tasks(DecodeState state) => (int)(state.RowCount * _shape.KeyValueHeads);

    // Number of parts that the keys of a head are split into, where threads would be idle otherwise.
    private int Pieces(DecodeState state) => Tasks(state) % state.Threads == 0 || Tasks(state) > 4 * state.Threads ? 1 : Math.Min(state.Threads, MostParts / Tasks(state));

    // The same of the columns of the values: whole cache lines.
    private int ColumnPieces(DecodeState state) => (int)Math.Clamp(_shape.Width / ColumnsOfPiece, 1, Pieces(state));

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

    // Products of queries with some of the keys, q Kᵀ.
    private void Score(DecodeState state, int part)
    {
        var (pieces, task) = (Pieces(state), part / Pieces(state));
        var (row, group) = (task / _shape.KeyValueHeads, task % _shape.KeyValueHeads);
        var (first, keys) = Keys(state, row);
        var (token, end) = (first + (keys * (part % pieces) / pieces), first + (keys * ((part % pieces) + 1) / pieces));
        var queries = new FloatRows((nint)(Heads(state)[row] + (group * Group * _shape.Width)), _shape.Width, Group);
        var scores = state.Scores(row, group * Group, (_shape.Heads, Group, keys));
        for (nint tokens; token < end; token += tokens)
        {
            (var matrix, _, tokens) = Places(state, row, group, token);
            tokens = Math.Min(tokens, end - token);
            RowProduct.Run(matrix, 0, tokens, queries, scores.From(token - first));
        }
    }

    // Exponentials of a head's scores, and the factor that makes their sum 1.
    private void Weigh(DecodeState state, int part)
    {
        var (row, head) = (part / _shape.Heads, part % _shape.Heads);
        var keys = Keys(state, row).Count;
        var scores = state.Scores(row, head / Group * Group, (_shape.Heads, Group, keys));
        _factors.Start[part] = (float)(1 / Exponentials(scores[head % Group], keys, head));
    }

    // Weighted sums of some columns of the values.
    private void Mix(DecodeState state, int part)
    {
        var (pieces, task) = (ColumnPieces(state), part / ColumnPieces(state));
        var (row, group, units) = (task / _shape.KeyValueHeads, task % _shape.KeyValueHeads, _shape.Width / ColumnsOfPiece);
        (nint First, nint Last) columns = pieces == 1 ? (0, _shape.Width) : (units * (part % pieces) / pieces * ColumnsOfPiece, part % pieces == pieces - 1 ? _shape.Width : units * ((part % pieces) + 1) / pieces * ColumnsOfPiece);
        var (first, keys) = Keys(state, row);
        var scores = state.Scores(row, group * Group, (_shape.Heads, Group, keys));
        var mixed = new FloatRows((nint)(Mixed(state)[row] + (group * Group * _shape.Width)), _shape.Width, Group);
        for (nint token = first, tokens; token < first + keys; token += tokens)
        {
            (_, var matrix, tokens) = Places(state, row, group, token);
            tokens = Math.Min(tokens, first + keys - token);
            Add(matrix, tokens, scores.From(token - first), columns, mixed, isFirst: token == first);
        }

        for (nint i = 0; i < Group; i++)
        {
            var sums = mixed[i] + columns.First;
            RowSoftmax.Scale(sums, columns.Last - columns.First, _factors.Start[(row * _shape.Heads) + (group * Group) + i]);
            DecodeMath.Round(sums, columns.Last - columns.First, state.Half);
        }
    }

    // Adds the weighted sums of some values to those of earlier ones.
    private void Add(RowMatrix values, nint tokens, in FloatRows weights, (nint First, nint Last) columns, in FloatRows sums, bool isFirst)
    {
        if (isFirst)
        {
            RowProduct.WeightedSums(values, tokens, weights, columns, sums);
            return;
        }

        var numbers = stackalloc float[(int)(sums.Count * _shape.Width)];
        var part = new FloatRows((nint)numbers, _shape.Width, sums.Count);
        RowProduct.WeightedSums(values, tokens, weights, columns, part);
        for (nint i = 0; i < sums.Count; i++)
        {
            DecodeMath.Add(sums[i] + columns.First, part[i] + columns.First, 1, columns.Last - columns.First, half: false);
        }
    }

    // The first of a row's tokens that are attended to, and how many there are.
    private (nint First, nint Count) Keys(DecodeState state, nint row)
    {
        var first = FirstKey(state, row);
        return (first, Seen(state, row) + 1 - first);
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
