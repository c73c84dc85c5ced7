using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>What the layers of a step read and write: a few rows, in float32 numbers that are those of the model's dtype.</summary>
/// <param name="rows">How many rows: one token of each text.</param>
/// <param name="half">Whether the model is in bfloat16.</param>
/// <param name="config">The decoder's settings.</param>
internal sealed unsafe class DecodeState(nint rows, bool half, DecoderConfig config)
{
    private readonly DecodeBuffer _states = new(rows * config.HiddenSize);
    private readonly DecodeBuffer _normed = new(rows * config.HiddenSize);
    private readonly DecodeBuffer _given = new(rows * config.HiddenSize);
    private readonly DecodeBuffer _heads = new(rows * (config.HeadCount + (2 * config.KeyValueHeadCount)) * config.HeadDimension);
    private readonly DecodeBuffer _mixed = new(rows * config.HeadCount * config.HeadDimension);
    private readonly DecodeBuffer _gated = new(rows * 2 * config.IntermediateSize);
    private readonly int?[] _windows = [.. Enumerable.Range(0, config.LayerCount).Select(layer => config.Layer(layer).SlidingWindow)];
    private readonly CacheSlot[] _slots = new CacheSlot[config.LayerCount];
    private readonly long[] _hidden = new long[rows];
    private DecodeBuffer _scores = new(0);

    /// <summary>The number of rows.</summary>
    internal nint RowCount => rows;

    /// <summary>Whether the model is in bfloat16.</summary>
    internal bool Half => half;

    /// <summary>How many threads take part.</summary>
    internal int Threads { get; private set; } = 1;

    /// <summary>The residual stream.</summary>
    internal FloatRows States => Of(_states);

    /// <summary>The residual stream, normalised, where that is what is read.</summary>
    internal FloatRows Normed => Of(_normed);

    /// <summary>What attention, and then the feed-forward, gives.</summary>
    internal FloatRows Given => Of(_given);

    /// <summary>Query, key and value heads.</summary>
    internal FloatRows Heads => Of(_heads);

    /// <summary>What the query heads found.</summary>
    internal FloatRows Mixed => Of(_mixed);

    /// <summary>Gate and up, and then act(gate) · up in the gate's place.</summary>
    internal FloatRows Gated => Of(_gated);

    /// <summary>How many tokens were read before.</summary>
    internal int Past { get; private set; }

    /// <summary>Begins with a token of each row.</summary>
    /// <param name="cache">What was read before; it gets room for the tokens.</param>
    /// <param name="padding">How many tokens of padding each row begins with.</param>
    /// <param name="threads">How many threads take part.</param>
    internal void Begin(KeyValueCache cache, int[] padding, int threads)
    {
        (Threads, Past) = (threads, cache.Length);
        for (var row = 0; row < padding.Length; row++)
        {
            _hidden[row] = padding[row];
        }

        for (var layer = 0; layer < _slots.Length; layer++)
        {
            _slots[layer] = cache.Reserve(layer, _windows[layer]);
        }

        var keys = _slots.Max(static s => s.Seen) + 1;
        if (_scores.Count < rows * config.HeadCount * keys)
        {
            _scores = new DecodeBuffer(rows * config.HeadCount * 2 * keys);
        }
    }

    /// <summary>Where a layer's keys and values lie.</summary>
    internal CacheSlot Slot(int layer) => _slots[layer];

    /// <summary>How many of the tokens that a slot shows are a row's padding.</summary>
    internal nint Hidden(nint row, in CacheSlot slot) => (nint)Math.Clamp(_hidden[row] - (Past - slot.Seen), 0, slot.Seen);

    /// <summary>Room for the scores of some heads of a row, [heads, keys].</summary>
    internal FloatRows Scores(nint row, nint head, nint heads, nint keys) =>
        new((nint)(_scores.Start + (((row * config.HeadCount) + head) * (_scores.Count / (rows * config.HeadCount)))), keys, heads);

    private FloatRows Of(DecodeBuffer numbers) => new((nint)numbers.Start, numbers.Count / rows, rows);
}
