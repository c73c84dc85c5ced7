using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>Buffers of a decode step for a few rows: float32 values that are representable in the model's dtype.</summary>
/// <param name="rows">Number of rows: one token of each text.</param>
/// <param name="half">Whether the model is in bfloat16.</param>
/// <param name="config">Config of the decoder.</param>
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

    /// <summary>Number of rows.</summary>
    internal nint RowCount => rows;

    /// <summary>Whether the model is in bfloat16.</summary>
    internal bool Half => half;

    /// <summary>Number of threads.</summary>
    internal int Threads { get; private set; } = 1;

    /// <summary>The residual stream.</summary>
    internal FloatRows States => Of(_states);

    /// <summary>The normalized residual stream, if a norm precedes the block.</summary>
    internal FloatRows Normed => Of(_normed);

    /// <summary>Output of attention, then of the feed-forward block.</summary>
    internal FloatRows Given => Of(_given);

    /// <summary>Query, key and value heads.</summary>
    internal FloatRows Heads => Of(_heads);

    /// <summary>Output of the query heads.</summary>
    internal FloatRows Mixed => Of(_mixed);

    /// <summary>Gate and up; act(gate) · up replaces the gate.</summary>
    internal FloatRows Gated => Of(_gated);

    /// <summary>Number of tokens in the cache before this step.</summary>
    internal int Past { get; private set; }

    /// <summary>Starts a step with one token per row.</summary>
    /// <param name="cache">The cache, which is extended for the new tokens.</param>
    /// <param name="padding">Number of padding tokens at the start of each row.</param>
    /// <param name="threads">Number of threads.</param>
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

    /// <summary>Addresses of a layer's keys and values.</summary>
    internal CacheSlot Slot(int layer) => _slots[layer];

    /// <summary>Number of a slot's tokens that are a row's padding.</summary>
    internal nint Hidden(nint row, in CacheSlot slot) => (nint)Math.Clamp(_hidden[row] - (Past - slot.Seen), 0, slot.Seen);

    /// <summary>Buffer for the scores of some heads of a row, [heads, keys].</summary>
    internal FloatRows Scores(nint row, nint head, nint heads, nint keys) =>
        new((nint)(_scores.Start + (((row * config.HeadCount) + head) * (_scores.Count / (rows * config.HeadCount)))), keys, heads);

    private FloatRows Of(DecodeBuffer numbers) => new((nint)numbers.Start, numbers.Count / rows, rows);
}
