using System.Runtime.InteropServices;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Decoding.Decode;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

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
    private readonly Dictionary<EngineText, BlockText> _held = [];
    private readonly List<DecodeGroup> _groups = [];
    private readonly HashSet<PeftAdapter> _known = [];
    private readonly HashSet<PeftAdapter> _unknown = [];
    private DecodeStep? _step;
    private float[] _scores = [];

    private BlockRoad(CausalLanguageModel model, AdapterSet? adapters, int rows, KeyValueBlocks pool, DecodeStep step)
    {
        (_model, _adapters, _rows, _pool, _step) = (model, adapters, Math.Min(rows, DecodeStep.MaxRows), pool, step);
        _tree = new PrefixTree(pool);
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

    public bool ReadsTogether(EngineText text) => text.Read == 0;

    public Span<float> Read(EngineText text, int tokens)
    {
        tokens = Math.Min(tokens, text.Unread);
        return Read([text], tokens, wantsScores: tokens == text.Unread);
    }

    public void ReadTogether(IReadOnlyList<EngineText> texts, IScoreTaker taker)
    {
        var scores = Read(texts, null, wantsScores: true);
        var vocabulary = scores.Length / texts.Count;
        for (var i = 0; i < texts.Count; i++)
        {
            taker.Take(texts[i], scores.Slice(i * vocabulary, vocabulary));
        }
    }

    // Reads some tokens of a text, or several texts whole, one after the other in one row; the logits after the last token of each.
    private Span<float> Read(IReadOnlyList<EngineText> texts, int? tokens, bool wantsScores)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var parts = texts.Select(t => new BlockPart(_held[t].Blocks, t.Read, tokens ?? t.Unread)).ToList();
        var count = parts.Sum(static p => p.Tokens);
        using var cache = new DecoderCache(layer => new BlockKeyValues(_pool, layer, parts));
        cache.Advance(parts[0].Past, parts[0].Past - 1);
        var input = new ModelInput
        {
            InputIds = tensor([.. texts.Zip(parts).SelectMany(static t => t.First.Tokens.GetRange(t.Second.Past, t.Second.Tokens)).Select(static t => (long)t)], [1, count]),
            PositionIds = tensor([.. parts.SelectMany(static p => Enumerable.Range(p.Past, p.Tokens)).Select(static p => (long)p)], [1, count]),
            LongestPosition = parts.Max(static p => p.Past + p.Tokens - 1),
            Documents = parts.Count == 1 ? null : tensor([.. parts.SelectMany(static (p, i) => Enumerable.Repeat((long)i + 1, p.Tokens))], [1, count]),
            Cache = cache,
            Adapters = _adapters is null ? null : [texts[0].Request.Adapter],
        };
        var states = _model.call(input);
        var (lasts, end) = (new long[parts.Count], 0);
        for (var i = 0; i < parts.Count; i++)
        {
            end += parts[i].Tokens;
            lasts[i] = end - 1;
            texts[i].Read += parts[i].Tokens;
            _held[texts[i]].Note(texts[i].Tokens, texts[i].Read);
        }

        if (!wantsScores)
        {
            return [];
        }

        var scores = _model.Logits(states.index_select(1, tensor(lasts)), input).to(float32).contiguous();
        _scores = _scores.Length >= scores.numel() ? _scores : new float[scores.numel()];
        MemoryMarshal.Cast<byte, float>(scores.bytes).CopyTo(_scores);
        return _scores.AsSpan(0, (int)scores.numel());
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
        var vocabulary = scores.Length / texts.Count;
        foreach (var text in texts)
        {
            text.Read++;
            _held[text].Note(text.Tokens, text.Read);
        }

        for (var row = 0; row < texts.Count; row++)
        {
            taker.Take(texts[row], scores.Slice(row * vocabulary, vocabulary));
        }
    }
}
