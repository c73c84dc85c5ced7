using System.Numerics;
using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>
/// Keys and values of the tokens processed by a layer's attention, in buffers that grow by doubling. A layer with a sliding window keeps
/// only those that later tokens attend to.
/// </summary>
/// <param name="window">Sliding window: number of tokens that a token attends to, including itself; null for all.</param>
internal sealed class KeyValueState(int? window) : LayerState, IKeyValues
{
    private const int SmallestBuffer = 64;

    private Buffer? _held;
    private int _length;

    /// <inheritdoc/>
    public override long ByteLength => _held is { } held ? (held.Keys.numel() + held.Values.numel()) * held.Keys.element_size() : 0;

    /// <summary>Number of tokens that the buffers have room for when texts have been decoded so far.</summary>
    /// <param name="window">The sliding window; null for none.</param>
    /// <param name="texts">The texts.</param>
    internal static long Capacity(int? window, CachedTexts texts)
    {
        var (ofPrompt, needed) = (Buffer.CapacityFor(texts.Prompt, window, texts.Prompt), Math.Min(texts.Tokens, window ?? long.MaxValue));

        // The prompt's buffer is kept until it is full, but for a window not if it is far too large.
        var isKept = texts.Tokens == texts.Prompt || (texts.Tokens <= ofPrompt && (window is null || Buffer.IsUsable(ofPrompt, needed)));
        return isKept ? ofPrompt : Buffer.CapacityFor(needed, window, texts.Tokens);
    }

    /// <summary>Appends keys and values of new tokens.</summary>
    /// <param name="keys">Keys, [batch, key/value heads, tokens, head_dim].</param>
    /// <param name="values">Values, of the same shape, except that their heads may have another width.</param>
    /// <returns>
    /// The keys and values that the new tokens attend to, up to the last of them, as views that live as long as the caller's dispose scope.
    /// </returns>
    public (Tensor Keys, Tensor Values) Append(Tensor keys, Tensor values)
    {
        ArgumentNullException.ThrowIfNull(keys);
        ArgumentNullException.ThrowIfNull(values);
        var tokens = (int)keys.size(2);
        var (held, kept) = Room(keys, values, tokens);
        using (NewDisposeScope())
        {
            _ = held.Keys.narrow(2, held.End, tokens).copy_(keys);
            _ = held.Values.narrow(2, held.End, tokens).copy_(values);
        }

        Grow(held, tokens);
        return (held.Keys.narrow(2, held.Start, kept + tokens), held.Values.narrow(2, held.Start, kept + tokens));
    }

    /// <summary>Reserves space for one more token on the CPU; the caller writes its keys and values.</summary>
    internal CacheSlot Reserve()
    {
        var before = _held!;
        var (held, kept) = Room(before.Keys, before.Values, 1);
        Grow(held, 1);
        return new CacheSlot(held.Starts.Keys, held.Starts.Values, (nint)held.Capacity, held.Start, kept);
    }

    internal override bool CanTruncate(int length) => _held is null || length - Math.Min(length, (window ?? int.MaxValue) - 1) >= _held.FirstToken;

    internal override void Truncate(int length)
    {
        _length = length;
        if (_held is { } held)
        {
            held.End = length - held.FirstToken;
            held.Start = Math.Min(held.Start, held.End);
        }
    }

    internal override void Select(long[] rows) =>
        _held = _held is { } held ? new Buffer(Chosen(held.Keys, rows)!, Chosen(held.Values, rows)!) { Start = held.Start, End = held.End, FirstToken = held.FirstToken } : null;

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        _held?.Dispose();
        _held = null;
    }

    // The buffer with space for more tokens, the start of the range that they attend to, and its length.
    private (Buffer Held, int Kept) Room(Tensor keys, Tensor values, int tokens)
    {
        var kept = Math.Min(_length, (window ?? int.MaxValue) - 1);
        if (_held is null || !_held.Fits(kept + tokens, tokens, window is not null))
        {
            _held = Buffer.Make(keys, values, _held, kept, Buffer.CapacityFor(kept + tokens, window, _length + tokens));
            _held.FirstToken = _length - kept;
        }

        _held.Start = _held.End - kept;
        return (_held, kept);
    }

    private void Grow(Buffer held, int tokens)
    {
        held.End += tokens;
        _length += tokens;
    }

    /// <summary>A buffer of keys and values, filled from Start to End.</summary>
    private sealed class Buffer(Tensor keys, Tensor values) : IDisposable
    {
        private readonly long _capacity = keys.size(2);
        private (nint Keys, nint Values) _starts;

        internal Tensor Keys => keys;

        internal Tensor Values => values;

        internal long Capacity => _capacity;

        /// <summary>Addresses of keys and values in CPU memory.</summary>
        internal unsafe (nint Keys, nint Values) Starts =>
            _starts.Keys != 0 ? _starts : _starts = ((nint)CpuKernel.Pointer(keys), (nint)CpuKernel.Pointer(values));

        internal int Start { get; set; }

        internal int End { get; set; }

        /// <summary>Index of the token at the start of the buffer.</summary>
        internal int FirstToken { get; set; }

        // A sliding window moves through its buffer, and to a new one at the end, or if the buffer was allocated for a long
        // prompt, most of which is outside the window.
        internal bool Fits(int needed, int tokens, bool windowed) =>
            End + tokens <= _capacity && (!windowed || IsUsable(_capacity, needed));

        internal static bool IsUsable(long capacity, long needed) => capacity <= Math.Max(SmallestBuffer, 4 * needed);

        // Tokens to have room for, of a text of so many in all. A window that moves needs room to do so: most are powers of two, and a buffer
        // of just that size would be copied for every token.
        internal static long CapacityFor(long tokens, int? window, long ofText) =>
            Math.Max(Math.Max(SmallestBuffer, (long)BitOperations.RoundUpToPowerOf2((ulong)tokens)), window is { } seen && ofText > seen ? seen + Math.Max(seen / 4, 16) : 0);

        internal static Buffer Make(Tensor keys, Tensor values, Buffer? old, int kept, long capacity)
        {
            var made = new Buffer(Enlarge(keys, capacity), Enlarge(values, capacity)) { End = kept };
            if (old is not null)
            {
                using (NewDisposeScope())
                {
                    _ = made.Keys.narrow(2, 0, kept).copy_(old.Keys.narrow(2, old.End - kept, kept));
                    _ = made.Values.narrow(2, 0, kept).copy_(old.Values.narrow(2, old.End - kept, kept));
                }

                old.Dispose();
            }

            return made;
        }

        public void Dispose()
        {
            keys.Dispose();
            values.Dispose();
        }

        private static Tensor Enlarge(Tensor like, long capacity) =>
            empty([like.size(0), like.size(1), capacity, like.size(3)], like.dtype, like.device).DetachFromDisposeScope();
    }
}

/// <summary>Memory layout of a layer's cache with space for one token. Keys of a head are contiguous, as are its values.</summary>
/// <param name="Keys">Address of the keys of the first row's first head, in CPU memory.</param>
/// <param name="Values">Address of the values.</param>
/// <param name="Capacity">Distance between heads, in tokens.</param>
/// <param name="Start">Index of the first token attended to.</param>
/// <param name="Seen">Number of cached tokens attended to; the new token follows them.</param>
internal readonly record struct CacheSlot(nint Keys, nint Values, nint Capacity, nint Start, nint Seen);
