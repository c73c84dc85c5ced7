using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>The state of decoding: for each layer, what its mixer needs of the previous tokens (such as keys and values).</summary>
internal sealed class DecoderCache : IDisposable
{
    private readonly Dictionary<int, LayerState> _layers = [];
    private readonly Func<int, LayerState>? _make;

    /// <summary>Creates an empty cache, whose layers make their states.</summary>
    public DecoderCache()
    {
    }

    /// <summary>Creates a cache with other states than the layers' own.</summary>
    /// <param name="make">Gives the state of a layer by its index.</param>
    internal DecoderCache(Func<int, LayerState> make) => _make = make;

    /// <summary>Number of tokens processed so far, without virtual ones.</summary>
    public int Length { get; private set; }

    /// <summary>Number of virtual tokens ahead of them.</summary>
    public int Virtual { get; private set; }

    /// <summary>Number of tokens whose state is held.</summary>
    internal int Held => Length + Virtual;

    /// <summary>Largest position processed so far; -1 if there is none.</summary>
    public long LongestPosition { get; private set; } = -1;

    /// <summary>
    /// From which token of each row on an adapter with invocation tokens applied; null for a row to which it did not. Null if no such adapter was active.
    /// </summary>
    public IReadOnlyList<long?>? AdaptedFrom { get; internal set; }

    /// <summary>Size of all layers' states in bytes.</summary>
    public long ByteLength => _layers.Values.Sum(static l => l.ByteLength);

    /// <summary>The state of a layer, created on first use.</summary>
    /// <param name="layer">Index of the layer.</param>
    /// <param name="mixer">The layer's mixer.</param>
    public LayerState Of(int layer, TokenMixer mixer)
    {
        ArgumentNullException.ThrowIfNull(mixer);
        return _layers.TryGetValue(layer, out var state) ? state : _layers[layer] = _make?.Invoke(layer) ?? mixer.NewState();
    }

    /// <summary>The state of a layer; null if it has none.</summary>
    /// <param name="layer">Index of the layer.</param>
    internal LayerState? StateOf(int layer) => _layers.GetValueOrDefault(layer);

    /// <summary>
    /// Truncates the cache to its first tokens, so that decoding can continue from this common prefix. <see cref="LongestPosition"/> does
    /// not change, because the cached keys may have been rotated with frequencies for a text of that length.
    /// </summary>
    /// <param name="length">Number of tokens to keep.</param>
    /// <returns>Whether it was possible; false if a layer no longer has the state after the last kept token.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The length is negative or greater than <see cref="Length"/>.</exception>
    public bool Truncate(int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, Length);
        if (!CanTruncate(length))
        {
            return false;
        }

        if (length == 0)
        {
            // The virtual tokens come with the first token again.
            Dispose();
            Virtual = 0;
        }

        foreach (var state in _layers.Values.Where(_ => length < Length))
        {
            state.Truncate(length + Virtual);
        }

        Length = length;
        return true;
    }

    /// <summary>Whether <see cref="Truncate"/> is possible.</summary>
    /// <param name="length">Number of tokens to keep.</param>
    internal bool CanTruncate(int length) => length >= Length || _layers.Values.All(state => state.CanTruncate(length + Virtual));

    /// <summary>Chooses rows of the batch: row i becomes what one of the rows was. A row can be chosen several times, so that texts with the same beginning share what was computed of it.</summary>
    /// <param name="rows">For each row of the new batch, the row that it was.</param>
    internal void Select(IReadOnlyList<int> rows)
    {
        long[] places = [.. rows.Select(static r => (long)r)];
        foreach (var state in _layers.Values)
        {
            state.Select(places);
        }

        AdaptedFrom = AdaptedFrom is { } from ? [.. rows.Select(r => from[r])] : null;
    }

    /// <summary>Advances the length after every layer has processed new tokens.</summary>
    /// <param name="tokens">Number of new tokens.</param>
    /// <param name="longestPosition">Largest position among them.</param>
    /// <param name="virtualTokens">Number of virtual tokens that came before them.</param>
    public void Advance(int tokens, long longestPosition, int virtualTokens = 0)
    {
        Virtual += virtualTokens;
        LongestPosition = longestPosition;
        Length += tokens;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var state in _layers.Values)
        {
            state.Dispose();
        }

        _layers.Clear();
    }
}

/// <summary>What a layer's mixer needs of the previous tokens, such as keys and values or a recurrent state.</summary>
internal abstract class LayerState : IDisposable
{
    /// <summary>Size in bytes.</summary>
    public abstract long ByteLength { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Whether the state can be truncated to the first tokens.</summary>
    /// <param name="length">Number of tokens to keep, fewer than were processed.</param>
    internal abstract bool CanTruncate(int length);

    /// <summary>Truncates the state to the first tokens. Only if <see cref="CanTruncate"/> is true.</summary>
    /// <param name="length">Number of tokens to keep.</param>
    internal abstract void Truncate(int length);

    /// <summary>Chooses rows of the batch.</summary>
    /// <param name="rows">For each row of the new batch, the row that it was.</param>
    internal abstract void Select(long[] rows);

    /// <summary>Rows of a tensor that a state holds, in its place; null for none.</summary>
    /// <param name="held">The tensor, which is disposed.</param>
    /// <param name="rows">The rows.</param>
    private protected static Tensor? Chosen(Tensor? held, long[] rows)
    {
        if (held is null)
        {
            return null;
        }

        using var places = tensor(rows, device: held.device);
        var chosen = held.index_select(0, places).DetachFromDisposeScope();
        held.Dispose();
        return chosen;
    }

    /// <summary>Frees the state's tensors.</summary>
    /// <param name="disposing">Whether this is a call of <see cref="Dispose()"/> rather than of a finalizer.</param>
    protected abstract void Dispose(bool disposing);
}
