namespace OpenWeights.Tune.Layers;

/// <summary>What a model remembers of the tokens that it has read: a state for each layer, made by the layer's mixer.</summary>
public sealed class DecoderCache : IDisposable
{
    private readonly Dictionary<int, LayerState> _layers = [];

    /// <summary>The number of tokens that were read.</summary>
    public int Length { get; private set; }

    /// <summary>The largest position that was read; -1 before the first.</summary>
    public long LongestPosition { get; private set; } = -1;

    /// <summary>The bytes that all layers hold.</summary>
    public long ByteLength => _layers.Values.Sum(static l => l.ByteLength);

    /// <summary>A layer's state, made where there is none yet.</summary>
    /// <param name="layer">The layer's number.</param>
    /// <param name="mixer">The layer's mixer.</param>
    public LayerState Of(int layer, TokenMixer mixer)
    {
        ArgumentNullException.ThrowIfNull(mixer);
        return _layers.TryGetValue(layer, out var state) ? state : _layers[layer] = mixer.NewState();
    }

    /// <summary>A layer's state; null where it has none.</summary>
    /// <param name="layer">The layer's number.</param>
    internal LayerState? Held(int layer) => _layers.GetValueOrDefault(layer);

    /// <summary>
    /// Forgets all but the first tokens, so that another text that begins with them can go on. The largest position stays what it was: what
    /// is held was turned for a text of that length.
    /// </summary>
    /// <param name="length">How many tokens to keep.</param>
    /// <returns>True on success; false where a layer no longer has the state that the next token needs.</returns>
    /// <exception cref="ArgumentOutOfRangeException">So many tokens were not read.</exception>
    public bool Truncate(int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, Length);
        if (length < Length && !_layers.Values.All(state => state.CanTruncate(length)))
        {
            return false;
        }

        foreach (var state in _layers.Values.Where(_ => length < Length))
        {
            state.Truncate(length);
        }

        Length = length;
        return true;
    }

    /// <summary>Counts tokens that every layer has read.</summary>
    /// <param name="tokens">How many.</param>
    /// <param name="longestPosition">The largest position among them.</param>
    public void Advance(int tokens, long longestPosition)
    {
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

/// <summary>What a layer's mixer remembers of the tokens that it has read.</summary>
public abstract class LayerState : IDisposable
{
    /// <summary>The bytes that it holds.</summary>
    public abstract long ByteLength { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Whether all but the first tokens can be forgotten.</summary>
    /// <param name="length">How many tokens to keep, fewer than were read.</param>
    internal abstract bool CanTruncate(int length);

    /// <summary>Forgets all but the first tokens, where <see cref="CanTruncate"/> says so.</summary>
    /// <param name="length">How many tokens to keep.</param>
    internal abstract void Truncate(int length);

    /// <summary>Frees what is held.</summary>
    /// <param name="disposing">Whether it is disposed of, and not finalised.</param>
    protected abstract void Dispose(bool disposing);
}
