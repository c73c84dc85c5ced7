using OpenWeights.Tune.Layers;

namespace OpenWeights.Tune.Decoding;

/// <summary>
/// Keys and values of the last prompt and answer, so that of the next prompt only the part after the common prefix must be processed. The
/// cache is valid for one model with one adapter: call <see cref="Clear"/> if either changes.
/// </summary>
public sealed class PromptCache : IDisposable
{
    private DecoderCache? _cache;
    private IReadOnlyList<int> _read = [];

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

    /// <summary>Takes the cache of the longest common prefix with a prompt, and its length. The last token is never included, because its logits are needed.</summary>
    internal (DecoderCache Cache, int Known) Take(int[] prompt)
    {
        var known = Math.Min(_read.Zip(prompt).TakeWhile(static pair => pair.First == pair.Second).Count(), prompt.Length - 1);
        if (_cache is not { } cache || known == 0 || !cache.Truncate(known))
        {
            Clear();
            return (new DecoderCache(), 0);
        }

        (_cache, _read) = (null, []);
        return (cache, known);
    }

    /// <summary>Returns a cache with the tokens it holds; it is freed if they are unknown.</summary>
    internal void Keep(DecoderCache cache, IReadOnlyList<int>? read)
    {
        Clear();
        if (read is null)
        {
            cache.Dispose();
        }
        else
        {
            (_cache, _read) = (cache, read);
        }
    }
}
