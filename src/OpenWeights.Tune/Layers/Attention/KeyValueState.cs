using System.Numerics;
using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>
/// Keys and values of the tokens that a layer's attention has read, in buffers that grow by doubling. A layer with a sliding window keeps
/// only what its next token can still see.
/// </summary>
/// <param name="window">How many tokens a token may look back at, itself included; null for all.</param>
public sealed class KeyValueState(int? window) : LayerState
{
    private const int SmallestBuffer = 64;

    private Buffer? _held;
    private int _length;

    /// <inheritdoc/>
    public override long ByteLength => _held is { } held ? 2 * held.Keys.numel() * held.Keys.element_size() : 0;

    /// <summary>Adds keys and values of the tokens being read.</summary>
    /// <param name="keys">[batch, key/value heads, tokens, head_dim].</param>
    /// <param name="values">Of the same shape.</param>
    /// <returns>
    /// The keys and values that these tokens can see, up to the last of them, as views that live as long as the caller's dispose scope.
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

    /// <summary>Makes room for one more token behind those that are held, on the CPU; whoever asks writes its keys and values.</summary>
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

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        _held?.Dispose();
        _held = null;
    }

    // The buffer with room for some tokens more, of which those from its start on can be seen, and how many these are.
    private (Buffer Held, int Kept) Room(Tensor keys, Tensor values, int tokens)
    {
        var kept = Math.Min(_length, (window ?? int.MaxValue) - 1);
        if (_held is null || !_held.Fits(kept + tokens, tokens, window is not null))
        {
            _held = Buffer.Make(keys, values, _held, kept, kept + tokens);
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
