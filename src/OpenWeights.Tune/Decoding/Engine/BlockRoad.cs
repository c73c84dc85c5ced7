using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Decoding.Decode;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>
/// Computes texts on the CPU with keys and values in blocks, which texts with the same beginning share: prompts by the model's own forward, and the next
/// token of all texts together in one step. For models whose layers are plain attention, and low-rank adapters.
/// </summary>
internal sealed class BlockRoad : ITextRoad
{
    private readonly CausalLanguageModel _model;
    private readonly AdapterSet? _adapters;
    private readonly int _rows;
    private readonly KeyValueBlocks _pool;
    private readonly PrefixTree _tree;
    private readonly DecodeTables _tables;
    private readonly TextBatch _batch;
    private readonly Dictionary<EngineText, BlockText> _held = [];
    private readonly List<DecodeGroup> _groups = [];
    private readonly HashSet<PeftAdapter> _known = [];
    private readonly HashSet<PeftAdapter> _unknown = [];
    private DecodeStep? _step;

    private BlockRoad(CausalLanguageModel model, AdapterSet? adapters, int rows, KeyValueBlocks pool, DecodeStep step)
    {
        (_model, _adapters, _rows, _pool, _step) = (model, adapters, Math.Min(rows, DecodeStep.MaxRows), pool, step);
        (_tree, _batch) = (new PrefixTree(pool), new TextBatch(model));
        _tables = new DecodeTables(_rows, KeyValueBlocks.Tokens, pool.Places);
    }

    public long UsedBytes => (_pool.Used - _tree.Unused) * _pool.BlockBytes;

    public long KeptBytes => _tree.Unused * _pool.BlockBytes;

    public long CachedTokens => _tree.Tokens + _held.Sum(static h => (long)h.Key.Read % KeyValueBlocks.Tokens);

    /// <summary>Maximum number of bytes of all blocks.</summary>
    internal long MaxBytes => _pool.Max * _pool.BlockBytes;

    /// <summary>Creates it for a model; null if the model is not one of those.</summary>
    /// <param name="model">The model.</param>
    /// <param name="adapters">The adapters that texts can name; null if texts cannot name any.</param>
    /// <param name="rows">Maximum number of texts at a time.</param>
    /// <param name="maxBytes">Maximum number of bytes of keys and values, given the bytes per token.</param>
    internal static BlockRoad? Of(CausalLanguageModel model, AdapterSet? adapters, int rows, Func<long, long> maxBytes)
    {
        if (model.Stack is not { Virtual: null, Invocation: null } || model.Stack.Layers.Any(static l => l.Needs.Rope?.DependsOnLength == true))
        {
            return null;
        }

        return Step(model, adapters, rows) is { } step && KeyValueBlocks.Of(model, maxBytes) is { } pool ? new BlockRoad(model, adapters, rows, pool, step) : null;
    }

    /// <summary>Whether texts of an adapter can be computed so.</summary>
    /// <param name="adapter">The adapter; null for the base model.</param>
    internal bool Serves(PeftAdapter? adapter)
    {
        if (_step is null && (_step = Step(_model, _adapters, _rows)) is null)
        {
            return false;
        }

        if (adapter is null || _known.Contains(adapter))
        {
            return true;
        }

        if (_unknown.Contains(adapter) || adapter.Invocation is not null || adapter.Unmixable is not null || !_step.TryKnow(adapter))
        {
            _ = _unknown.Add(adapter);
            return false;
        }

        return _known.Add(adapter);
    }

    public bool HasRoom(EngineText text) => _held.Count == 0 || Blocks(text.Tokens.Count + 1) <= _pool.Max - _pool.Used + _tree.Unused;

    public bool IsTimely(EngineText text)
    {
        // Whole blocks are shared when they are full.
        foreach (var (other, held) in _held)
        {
            if (other.Unread > 1 && ReferenceEquals(other.Adapter, text.Adapter) && Shared(other, text) / KeyValueBlocks.Tokens > held.Whole)
            {
                return false;
            }
        }

        return true;
    }

    public void Begin(EngineText text)
    {
        var held = new BlockText(_pool, _tree, _tree.Root(text.Adapter));
        _held[text] = held;
        text.Read = held.Begin(text.Tokens, TryTake);
    }

    public bool TryReserve(EngineText text, int tokens) => _held[text].TryReserve(text.Read + tokens, TryTake);

    public bool ReadsTogether(EngineText text) => true;

    public Span<float> Read(EngineText text, int tokens)
    {
        tokens = Math.Min(tokens, text.Unread);
        return Read([(text, tokens)], wantsScores: tokens == text.Unread);
    }

    public void ReadTogether(IReadOnlyList<EngineText> texts, IScoreTaker taker) =>
        TextBatch.Give(texts, Read([.. texts.Select(static t => (t, t.Unread))], wantsScores: true), taker);

    // Reads some tokens of texts of one adapter; the logits after the last token of each.
    private Span<float> Read(IReadOnlyList<(EngineText Text, int Tokens)> texts, bool wantsScores)
    {
        var parts = new List<(EngineText Text, DecoderCache Cache, int Tokens)>();
        foreach (var (text, tokens) in texts)
        {
            var (blocks, past) = (_held[text].Blocks, text.Read);
            var cache = new DecoderCache(layer => new BlockKeyValues(_pool, layer, blocks, past));
            cache.Advance(past, past - 1);
            parts.Add((text, cache, tokens));
        }

        // Where all read one token they are rows, each of which has its adapter.
        var rows = texts.All(static t => t.Tokens == 1) ? texts.Count : 1;
        var scores = _batch.Read(parts, _adapters is null ? null : [.. Enumerable.Repeat(texts[0].Text.Request.Adapter, rows)], wantsScores);
        foreach (var (text, cache, _) in parts)
        {
            cache.Dispose();
            _held[text].Note(text.Tokens, text.Read);
        }

        return scores;
    }

    public void Step(IReadOnlyList<EngineText> texts, IScoreTaker taker)
    {
        // Rows of an adapter stand together.
        var ordered = texts.OrderBy(static t => t.Request.Adapter, StringComparer.Ordinal).ToList();
        for (var start = 0; start < ordered.Count; start += _rows)
        {
            StepOf(ordered[start..Math.Min(ordered.Count, start + _rows)], taker);
        }
    }

    public void End(EngineText text, bool isWhole)
    {
        if (_held.Remove(text, out var held))
        {
            held.End(text.Tokens, isWhole ? text.Read : 0);
        }
    }

    public void Renew()
    {
        _known.Clear();
        _unknown.Clear();
        _step = null;
        var loaded = _adapters?.Names.Select(object (string name) => _adapters[name]).ToHashSet() ?? [];
        _tree.Forget(loaded.Contains);
    }

    public void Dispose()
    {
        foreach (var held in _held.Values)
        {
            held.End([], 0);
        }

        _held.Clear();
        _tree.Clear();
        _pool.Dispose();
    }

    // Adapters are rows' own in a step, so that it is made of the model without them.
    private static DecodeStep? Step(CausalLanguageModel model, AdapterSet? adapters, int rows)
    {
        if (adapters is null)
        {
            return DecodeStep.Of(model, Math.Min(rows, DecodeStep.MaxRows));
        }

        adapters.Use();
        try
        {
            return DecodeStep.Of(model, Math.Min(rows, DecodeStep.MaxRows));
        }
        finally
        {
            adapters.UseByRow();
        }
    }

    private static int Blocks(int tokens) => (tokens + KeyValueBlocks.Tokens - 1) / KeyValueBlocks.Tokens;

    private static int Shared(EngineText one, EngineText other)
    {
        var (i, most) = (0, Math.Min(one.Tokens.Count, other.Tokens.Count));
        while (i < most && one.Tokens[i] == other.Tokens[i])
        {
            i++;
        }

        return i;
    }

    private nint? TryTake()
    {
        if (_pool.Take() is { } block)
        {
            return block;
        }

        return _tree.Evict() ? _pool.Take() : null;
    }

    private void StepOf(List<EngineText> texts, IScoreTaker taker)
    {
        _tables.Clear();
        _groups.Clear();
        Span<int> tokens = stackalloc int[texts.Count];
        for (var row = 0; row < texts.Count; row++)
        {
            var text = texts[row];
            if (!Serves(text.Adapter))
            {
                throw new InvalidOperationException("the model changed while texts were generated, so that they cannot go on.");
            }

            tokens[row] = text.Tokens[^1];
            _tables.Add(_held[text].Blocks, text.Read);
            if (text.Adapter is not { } adapter)
            {
                continue;
            }

            if (_groups.Count > 0 && ReferenceEquals(_groups[^1].Adapter, adapter))
            {
                _groups[^1] = _groups[^1] with { Count = _groups[^1].Count + 1 };
            }
            else
            {
                _groups.Add(new DecodeGroup(adapter, row, 1));
            }
        }

        var scores = _step!.Read(tokens, _tables, _groups);
        foreach (var text in texts)
        {
            text.Read++;
            _held[text].Note(text.Tokens, text.Read);
        }

        TextBatch.Give(texts, scores, taker);
    }
}
