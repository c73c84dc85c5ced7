using System.Numerics;
using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>
/// Keys and values of the tokens that were already read, per layer, in buffers that grow by doubling. A layer with a sliding window keeps
/// only what its next token can still see.
/// </summary>
public sealed class KeyValueCache : IDisposable
{
    private const int SmallestBuffer = 64;

    private readonly Dictionary<int, Buffer> _layers = [];
    private int _reading;

    /// <summary>The number of tokens that were read.</summary>
    public int Length { get; private set; }

    /// <summary>The largest position that was read; -1 before the first.</summary>
    public long LongestPosition { get; private set; } = -1;

    /// <summary>The bytes that all layers hold.</summary>
    public long ByteLength => _layers.Values.Sum(static b => 2 * b.Keys.numel() * b.Keys.element_size());

    /// <summary>Adds a layer's keys and values for the tokens being read.</summary>
    /// <param name="layer">The layer's number.</param>
    /// <param name="keys">[batch, key/value heads, tokens, head_dim].</param>
    /// <param name="values">Of the same shape.</param>
    /// <param name="window">How many tokens a token may look back at, itself included; null for all.</param>
    /// <returns>
    /// The keys and values that these tokens can see, up to the last of them, as views that live as long as the caller's dispose scope.
    /// </returns>
    public (Tensor Keys, Tensor Values) Append(int layer, Tensor keys, Tensor values, int? window = null)
    {
        ArgumentNullException.ThrowIfNull(keys);
        ArgumentNullException.ThrowIfNull(values);
        var tokens = (int)keys.size(2);
        var (held, kept) = Room(layer, keys, values, tokens, window);
        using (NewDisposeScope())
        {
            _ = held.Keys.narrow(2, held.End, tokens).copy_(keys);
            _ = held.Values.narrow(2, held.End, tokens).copy_(values);
        }

        held.End += tokens;
        return (held.Keys.narrow(2, held.Start, kept + tokens), held.Values.narrow(2, held.Start, kept + tokens));
    }

    /// <summary>Makes room for one more token in a layer that holds some, on the CPU; whoever asks writes its keys and values.</summary>
    /// <param name="layer">The layer's number.</param>
    /// <param name="window">As in <see cref="Append"/>.</param>
    internal CacheSlot Reserve(int layer, int? window)
    {
        var before = _layers[layer];
        var (held, kept) = Room(layer, before.Keys, before.Values, 1, window);
        held.End++;
        return new CacheSlot(held.Starts.Keys, held.Starts.Values, (nint)held.Capacity, held.Start, kept);
    }

    /// <summary>
    /// Forgets all but the first tokens, so that another text that begins with them can go on. The largest position stays what it was: what
    /// is held was turned for a text of that length.
    /// </summary>
    /// <param name="length">How many tokens to keep.</param>
    /// <returns>Whether it could: a layer with a sliding window may have let go of what the next token would have to see.</returns>
    /// <exception cref="ArgumentOutOfRangeException">So many tokens were not read.</exception>
    public bool Truncate(int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, Length);
        if (_layers.Values.Any(buffer => length - Math.Min(length, (buffer.Window ?? int.MaxValue) - 1) < buffer.FirstToken))
        {
            return false;
        }

        foreach (var buffer in _layers.Values)
        {
            buffer.End = length - buffer.FirstToken;
            buffer.Start = Math.Min(buffer.Start, buffer.End);
        }

        Length = length;
        return true;
    }

    /// <summary>Counts the tokens that every layer has added.</summary>
    /// <param name="longestPosition">The largest position among them.</param>
    public void Advance(long longestPosition)
    {
        LongestPosition = longestPosition;
        Length += _reading;
        _reading = 0;
    }

    // A layer's buffer with room for some tokens more, of which those from its start on can be seen, and how many these are.
    private (Buffer Held, int Kept) Room(int layer, Tensor keys, Tensor values, int tokens, int? window)
    {
        _reading = tokens;
        var kept = Math.Min(Length, (window ?? int.MaxValue) - 1);
        if (!_layers.TryGetValue(layer, out var held) || !held.Fits(kept + tokens, tokens, window is not null))
        {
            held = _layers[layer] = Buffer.Make(keys, values, held, kept, kept + tokens);
            (held.FirstToken, held.Window) = (Length - kept, window);
        }

        held.Start = held.End - kept;
        return (held, kept);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var buffer in _layers.Values)
        {
            buffer.Dispose();
        }

        _layers.Clear();
    }

    /// <summary>Room for keys and values, of which those from Start to End are held.</summary>
    private sealed class Buffer(Tensor keys, Tensor values) : IDisposable
    {
        private readonly long _capacity = keys.size(2);
        private (nint Keys, nint Values) _starts;

        internal Tensor Keys => keys;

        internal Tensor Values => values;

        internal long Capacity => _capacity;

        /// <summary>Where keys and values begin in the CPU's memory.</summary>
        internal unsafe (nint Keys, nint Values) Starts =>
            _starts.Keys != 0 ? _starts : _starts = ((nint)CpuKernel.Pointer(keys), (nint)CpuKernel.Pointer(values));

        internal int Start { get; set; }

        internal int End { get; set; }

        /// <summary>The number of the token that lies at the buffer's beginning.</summary>
        internal int FirstToken { get; set; }

        internal int? Window { get; set; }

        // A window moves on through its buffer, and to a new one when it has reached the end, or when the buffer was made for a long
        // prompt and most of it will never be looked at again.
        internal bool Fits(int needed, int tokens, bool windowed) =>
            End + tokens <= _capacity && (!windowed || _capacity <= Math.Max(SmallestBuffer, 4L * needed));

        internal static Buffer Make(Tensor keys, Tensor values, Buffer? old, int kept, int needed)
        {
            var capacity = Math.Max(SmallestBuffer, (long)BitOperations.RoundUpToPowerOf2((uint)needed));
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

/// <summary>Where a layer's cache has room for one token, behind those that it can see. Each head's keys lie in one piece, as do its values.</summary>
/// <param name="Keys">The keys of the first row's first head, in the CPU's memory.</param>
/// <param name="Values">The values likewise.</param>
/// <param name="Capacity">From a head to the next, in tokens.</param>
/// <param name="Start">The place of the first token that can be seen.</param>
/// <param name="Seen">How many tokens can be seen; the new one's place follows on them.</param>
internal readonly record struct CacheSlot(nint Keys, nint Values, nint Capacity, nint Start, nint Seen);
