using OpenWeights.Tune.Layers;

namespace OpenWeights.Tune.Decoding;

/// <summary>
/// Keys and values of the last prompt and answer, so that of the next prompt only the part after the common prefix must be processed. The
/// cache is valid for one model with one adapter: call <see cref="Clear"/> if either changes, but for adapters that are active by row, of which it knows its own.
/// </summary>
internal sealed class PromptCache : IDisposable
{
    private DecoderCache? _cache;
    private IReadOnlyList<int> _read = [];
    private string? _adapter;

    /// <summary>Number of cached tokens.</summary>
    public int Length => _read.Count;

    /// <summary>Size of the cached states in bytes.</summary>
    public long ByteLength => _cache?.ByteLength ?? 0;

    /// <summary>Clears the cache.</summary>
    public void Clear()
    {
        _cache?.Dispose();
        (_cache, _read) = (null, []);
    }

    /// <inheritdoc/>
    public void Dispose() => Clear();

    /// <summary>Number of tokens of a prompt whose states can be taken; 0 if none can.</summary>
    /// <param name="prompt">The prompt.</param>
    /// <param name="adaptedFrom">As in <see cref="Take"/>.</param>
    internal int Usable(int[] prompt, long? adaptedFrom) => Known(prompt, adaptedFrom) is var known && _cache?.CanTruncate(known) == true ? known : 0;

    /// <summary>Takes the cache of the longest common prefix with a prompt, and its length. The last token is never included, because its logits are needed.</summary>
    /// <param name="prompt">The prompt.</param>
    /// <param name="adaptedFrom">From which token of it on an adapter with invocation tokens applies; null if it does not.</param>
    /// <param name="adapter">Name of the adapter, where adapters are active by row; null for the base model, and for one with invocation tokens.</param>
    internal (DecoderCache Cache, int Known) Take(int[] prompt, long? adaptedFrom = null, string? adapter = null)
    {
        if (adapter != _adapter)
        {
            Clear();
        }

        var known = Known(prompt, adaptedFrom);
        if (_cache is not { } cache || known == 0 || !cache.Truncate(known))
        {
            Clear();
            return (new DecoderCache(), 0);
        }

        (_cache, _read) = (null, []);
        return (cache, known);
    }

    /// <summary>Returns a cache with the tokens it holds, and the adapter that computed it; it is freed if they are unknown.</summary>
    internal void Keep(DecoderCache cache, IReadOnlyList<int>? read, string? adapter = null)
    {
        Clear();
        if (read is null)
        {
            cache.Dispose();
        }
        else
        {
            (_cache, _read, _adapter) = (cache, read, adapter);
        }
    }

    private int Known(int[] prompt, long? adaptedFrom)
    {
        var known = Math.Min(_read.Zip(prompt).TakeWhile(static pair => pair.First == pair.Second).Count(), prompt.Length - 1);

        // Where the cache is another's than the base's, it must be adapted from the same token on.
        if (_cache?.AdaptedFrom?[0] is var held && held != adaptedFrom)
        {
            known = (int)Math.Min(known, Math.Min(held ?? long.MaxValue, adaptedFrom ?? long.MaxValue));
        }

        return known;
    }
}
