using System.Runtime.InteropServices;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>
/// Computes texts with the model's own forward and a cache for each, for every model and adapter there is: several together where what a text becomes does not
/// depend on the others, otherwise each by itself. The caches of the last texts are kept for texts with the same beginning.
/// </summary>
/// <param name="model">The model.</param>
/// <param name="adapters">The adapters that texts can name, active by row; null if texts cannot name any.</param>
/// <param name="maxBytes">Maximum number of bytes of all caches; a single text may need more.</param>
internal sealed class CacheRoad(CausalLanguageModel model, AdapterSet? adapters, long maxBytes) : ITextRoad
{
    // The size of a cache is asked for again after so many tokens.
    private const int Measured = 64;

    private readonly Dictionary<EngineText, Held> _held = [];
    private readonly List<Kept> _kept = [];
    private readonly TextBatch _batch = new(model);
    private float[] _scores = [];

    // Products of few rows sum each row in the same order on the CPU, however many there are. Rotary frequencies that depend on the length are a text's own.
    private readonly bool _isJoint = model.Device.type == TorchSharp.DeviceType.CPU && model.DType is ScalarType.Float32 or ScalarType.BFloat16
        && !model.Stack.Layers.Any(static l => l.Needs.Rope?.DependsOnLength == true);

    public long UsedBytes => _held.Values.Sum(static h => h.Bytes);

    public long KeptBytes => _kept.Sum(static k => k.Bytes);

    public long CachedTokens => _held.Keys.Sum(static t => (long)t.Read) + _kept.Sum(static k => (long)k.Cache.Length);

    public bool HasRoom(EngineText text) => _held.Count == 0 || UsedBytes < maxBytes;

    public bool IsTimely(EngineText text) => true;

    public void Begin(EngineText text)
    {
        var held = new Held { IsAlone = text.Adapter?.Unmixable is not null };
        using var alone = Alone(text, held);
        text.VirtualTokens = model.Stack.Virtual?.Count ?? 0;
        text.Limits.Require(text.Request.Prompt, text.VirtualTokens);
        held.Adapters = adapters is null || held.IsAlone ? null : [text.Request.Adapter];
        int[] tokens = [.. text.Tokens];
        if (model.Stack.Invocations(held.Adapters, 1)?[0] is { } invocation)
        {
            // Ahead of its invocation tokens the adapter shares the states of the base.
            held.From = [invocation.Find([.. text.Request.Prompt])];
            held.IsOfBase = true;
        }

        var holder = Holder(text, held);
        var best = _kept.Where(k => ReferenceEquals(k.Holder, holder)).Select(k => (Kept: k, Known: k.Cache.Usable(tokens, held.From?[0])))
            .Where(static k => 2 * k.Known >= k.Kept.Cache.Length).OrderByDescending(static k => k.Known).FirstOrDefault();
        if (best.Known > 0)
        {
            (held.Cache, text.Read) = best.Kept.Cache.Take(tokens, held.From?[0]);
            _ = _kept.Remove(best.Kept);
            best.Kept.Cache.Dispose();
        }

        Measure(held, text);
        _held[text] = held;
    }

    public bool TryReserve(EngineText text, int tokens)
    {
        FreeKept();
        return true;
    }

    public Span<float> Read(EngineText text, int tokens)
    {
        var held = _held[text];
        using var nothing = no_grad();
        using var alone = Alone(text, held);
        using var scope = NewDisposeScope();
        if (!model.Stack.Continues(held.Cache, text.Tokens.Count - 1))
        {
            held.Cache.Dispose();
            (held.Cache, text.Read) = (new DecoderCache(), 0);
        }

        // Where rotary frequencies depend on the length of the text, a part has others than the whole.
        tokens = model.Stack.Layers.All(l => l.Needs.Rope?.AreSame(text.Read + tokens, text.Tokens.Count) != false) ? Math.Min(tokens, text.Unread) : text.Unread;
        var (first, last) = (text.Read, text.Read + tokens);
        var input = new ModelInput
        {
            InputIds = Devices.Send(tensor([.. text.Tokens[first..last].Select(static t => (long)t)], [1, tokens]), model.Device),
            PositionIds = Devices.Send(tensor([.. Enumerable.Range(first, tokens).Select(static p => (long)p)], [1, tokens]), model.Device),
            LongestPosition = last - 1,
            Cache = held.Cache,
            AdaptedFrom = held.From,
            Adapters = held.Adapters,
        };
        var states = model.call(input);
        text.Read = last;
        MeasureAgain(text, first);
        if (text.Unread > 0)
        {
            return [];
        }

        var scores = model.Logits(states.narrow(1, tokens - 1, 1), input).view(-1).to(float32).cpu().contiguous();
        _scores = _scores.Length == scores.numel() ? _scores : new float[scores.numel()];
        MemoryMarshal.Cast<byte, float>(scores.bytes).CopyTo(_scores);
        return _scores;
    }

    // The expanded matrix of latent attention is a text's own where there are adapters.
    public bool ReadsTogether(EngineText text) => _isJoint && model.Stack.Virtual is null && _held[text] is { IsAlone: false, From: null }
        && (text.Adapter is null || !model.Stack.Layers.Any(static l => l.Mixer?.Part is LatentAttention));

    public void ReadTogether(IReadOnlyList<EngineText> texts, IScoreTaker taker)
    {
        Span<float> scores;
        try
        {
            var areRows = texts.All(static t => t.Unread == 1);
            scores = _batch.Read(
                [.. texts.Select(t => (t, _held[t].Cache, t.Unread))], adapters is null ? null : [.. texts.Take(areRows ? texts.Count : 1).Select(static t => t.Request.Adapter)], wantsScores: true);
        }
        catch
        {
            // What the caches hold now is not known; each text is read again from its start.
            foreach (var text in texts)
            {
                _held[text].Cache.Dispose();
                (_held[text].Cache, text.Read) = (new DecoderCache(), 0);
            }

            throw;
        }

        foreach (var text in texts)
        {
            MeasureAgain(text, text.Read - 1);
        }

        TextBatch.Give(texts, scores, taker);
    }

    public void Step(IReadOnlyList<EngineText> texts, IScoreTaker taker)
    {
        var joint = texts.Where(ReadsTogether).ToList();
        foreach (var some in joint.Chunk(FewRowsProduct.MaxRows).Where(static c => c.Length > 1))
        {
            try
            {
                ReadTogether(some, taker);
            }
            catch (Exception failure) when (failure is not OutOfMemoryException)
            {
                // One by one it shows which of them fails.
                StepAlone(some, taker);
            }
        }

        StepAlone(texts.Except(joint.Count % FewRowsProduct.MaxRows == 1 ? joint[..^1] : joint), taker);
    }

    private void StepAlone(IEnumerable<EngineText> texts, IScoreTaker taker)
    {
        foreach (var text in texts)
        {
            Span<float> scores;
            try
            {
                scores = Read(text, text.Unread);
            }
            catch (Exception failure) when (failure is not OutOfMemoryException)
            {
                taker.Fail(text, failure);
                continue;
            }

            taker.Take(text, scores);
        }
    }

    public void End(EngineText text, bool isWhole)
    {
        if (!_held.Remove(text, out var held))
        {
            return;
        }

        if (!isWhole || text.Read == 0 || held.Cache.Length != text.Read)
        {
            held.Cache.Dispose();
            return;
        }

        var kept = new PromptCache();
        kept.Keep(held.Cache, text.Tokens[..text.Read]);
        _kept.Add(new Kept(kept, Holder(text, held), kept.ByteLength));
        FreeKept();
    }

    public void Renew()
    {
        var loaded = adapters?.Names.Select(name => adapters[name]).ToHashSet() ?? [];
        Free(_kept.Where(k => k.Holder is { } adapter && !loaded.Contains(adapter)).ToList());
    }

    public void Dispose()
    {
        foreach (var held in _held.Values)
        {
            held.Cache.Dispose();
        }

        _held.Clear();
        Free([.. _kept]);
    }

    private static PeftAdapter? Holder(EngineText text, Held held) => held.IsOfBase ? null : text.Adapter;

    private static void Measure(Held held, EngineText text) => held.Bytes = text.Read == 0 ? 0 : held.Cache.ByteLength;

    // After the tokens from one on were read.
    private void MeasureAgain(EngineText text, int first)
    {
        if (first / Measured != text.Read / Measured || first == 0)
        {
            Measure(_held[text], text);
        }
    }

    // The least recently used ones are first.
    private void FreeKept()
    {
        for (var used = UsedBytes; _kept.Count > 0 && used + KeptBytes > maxBytes;)
        {
            Free([_kept[0]]);
        }
    }

    private void Free(List<Kept> kept)
    {
        foreach (var one in kept)
        {
            _ = _kept.Remove(one);
            one.Cache.Dispose();
        }
    }

    // An adapter that cannot be used for single rows of a batch is active alone while its text is computed.
    private Aside? Alone(EngineText text, Held held) => held.IsAlone ? new Aside(adapters!, text.Request.Adapter!) : null;

    private sealed class Aside : IDisposable
    {
        private readonly AdapterSet _adapters;

        internal Aside(AdapterSet adapters, string name)
        {
            _adapters = adapters;
            adapters.Use((name, 1));
        }

        public void Dispose() => _adapters.UseByRow();
    }

    private sealed record Kept(PromptCache Cache, PeftAdapter? Holder, long Bytes);

    private sealed class Held
    {
        internal DecoderCache Cache { get; set; } = new();

        internal long Bytes { get; set; }

        internal bool IsAlone { get; init; }

        internal bool IsOfBase { get; set; }

        internal IReadOnlyList<string?>? Adapters { get; set; }

        internal long?[]? From { get; set; }
    }
}
