using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>Buffers of a decode step for a few rows: float32 values that are representable in the model's dtype.</summary>
/// <param name="rows">Number of rows: one token of each text.</param>
/// <param name="half">Whether the model is in bfloat16.</param>
/// <param name="hiddenSize">Width of the residual stream.</param>
/// <param name="widths">Maximum width of each work buffer over all parts.</param>
internal sealed unsafe class DecodeState(nint rows, bool half, nint hiddenSize, IEnumerable<nint> widths)
{
    private readonly DecodeBuffer _states = new(rows * hiddenSize);
    private readonly DecodeBuffer _normed = new(rows * hiddenSize);
    private readonly DecodeBuffer _given = new(rows * hiddenSize);
    private readonly DecodeBuffer _aside = new(rows * hiddenSize);
    private readonly DecodeBuffer[] _work = [.. widths.Select(width => new DecodeBuffer(rows * width))];
    private readonly long[] _hidden = new long[rows];
    private readonly long[] _positions = new long[rows];
    private DecodeBuffer _scores = new(0);

    /// <summary>Number of rows of this step.</summary>
    internal nint RowCount { get; private set; }

    /// <summary>Number of parts of what is computed row by row between two products: 0 for a single row, which one thread computes without a stage for it.</summary>
    internal int RowParts => RowCount > 1 ? (int)RowCount : 0;

    /// <summary>Whether the model is in bfloat16.</summary>
    internal bool Half => half;

    /// <summary>Number of threads.</summary>
    internal int Threads { get; private set; } = 1;

    /// <summary>The residual stream.</summary>
    internal FloatRows States => Of(_states);

    /// <summary>Input of a part: the residual stream, normalized if the part has a norm before it.</summary>
    internal FloatRows Normed => Of(_normed);

    /// <summary>Output of a part.</summary>
    internal FloatRows Given => Of(_given);

    /// <summary>Output of the first of two parallel parts.</summary>
    internal FloatRows Aside => Of(_aside);

    /// <summary>The cache whose tokens precede those of all rows; null if each row has its own.</summary>
    internal DecoderCache? Cache { get; private set; }

    /// <summary>Where the tokens of rows are that have their own; null if all are in one cache.</summary>
    internal DecodeTables? Tables { get; private set; }

    /// <summary>Number of tokens in the cache before this step.</summary>
    private int Past => Cache!.Held;

    /// <summary>Positions of the rows' tokens.</summary>
    internal ReadOnlySpan<long> Positions => _positions.AsSpan(0, (int)RowCount);

    /// <summary>Starts a step with one token per row, whose rows are in one cache.</summary>
    /// <param name="cache">The cache.</param>
    /// <param name="padding">Number of padding tokens at the start of each row.</param>
    /// <param name="threads">Number of threads.</param>
    internal void Begin(DecoderCache cache, int[] padding, int threads)
    {
        (Threads, Cache, Tables, RowCount) = (threads, cache, null, padding.Length);
        for (var row = 0; row < padding.Length; row++)
        {
            _hidden[row] = padding[row];
            _positions[row] = Math.Max(0, Past - padding[row]);
        }
    }

    /// <summary>Starts a step with one token per row, whose rows are independent.</summary>
    /// <param name="tables">Where their tokens are.</param>
    /// <param name="threads">Number of threads.</param>
    internal void Begin(DecodeTables tables, int threads)
    {
        (Threads, Cache, Tables, RowCount) = (threads, null, tables, tables.Count);
        for (var row = 0; row < tables.Count; row++)
        {
            _positions[row] = tables.Length(row);
        }
    }

    /// <summary>Position of a row's token.</summary>
    internal long Position(nint row) => _positions[row];

    /// <summary>A work buffer, valid within a part.</summary>
    /// <param name="number">Index of the buffer.</param>
    /// <param name="width">Width of its rows.</param>
    internal FloatRows Work(int number, nint width) => new((nint)_work[number].Start, width, RowCount);

    /// <summary>Makes the buffer of attention scores large enough.</summary>
    /// <param name="heads">Number of query heads.</param>
    /// <param name="keys">Number of keys per head.</param>
    internal void WantScores(nint heads, nint keys)
    {
        if (_scores.Count < rows * heads * keys)
        {
            _scores = new DecodeBuffer(rows * heads * 2 * keys);
        }
    }

    /// <summary>Number of a row's padding tokens among the tokens of a cache slot.</summary>
    internal nint Hidden(nint row, in CacheSlot slot) => (nint)Math.Clamp(_hidden[row] - (Past - slot.Seen), 0, slot.Seen);

    /// <summary>Buffer for the scores of some heads of a row, [heads, keys].</summary>
    /// <param name="row">The row.</param>
    /// <param name="head">The first of the heads.</param>
    /// <param name="sizes">Number of all heads, of the heads to return, and of keys per head.</param>
    internal FloatRows Scores(nint row, nint head, (nint Heads, nint Count, nint Keys) sizes) =>
        new((nint)(_scores.Start + (((row * sizes.Heads) + head) * (_scores.Count / (rows * sizes.Heads)))), sizes.Keys, sizes.Count);

    private FloatRows Of(DecodeBuffer numbers) => new((nint)numbers.Start, numbers.Count / rows, RowCount);
}
