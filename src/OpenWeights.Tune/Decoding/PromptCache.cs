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

    /// <summary>Clears the cache.</summary>
    public void Clear()
    {
        _cache?.Dispose();
        (_cache, _read) = (null, []);
    }

    /// <inheritdoc/>
    public void Dispose() => Clear();

    /// <summary>Hands over a cache that holds the beginning of a prompt, and how much of it; the last token is never among it, since its scores are wanted.</summary>
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

    /// <summary>Takes a cache back, with the tokens that it holds; it is freed where they are not known.</summary>
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
