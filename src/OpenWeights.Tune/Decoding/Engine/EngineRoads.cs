using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>The ways to compute texts, and which one is for which text.</summary>
internal sealed class EngineRoads : IDisposable
{
    private readonly CacheRoad _caches;

    /// <summary>Creates the ways.</summary>
    /// <param name="model">The model.</param>
    /// <param name="adapters">The adapters that texts can name, active by row; null if texts cannot name any.</param>
    /// <param name="options">Limits.</param>
    internal EngineRoads(CausalLanguageModel model, AdapterSet? adapters, TextEngineOptions options)
    {
        MaxBytes = options.MaxCacheBytes ?? (GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 4);
        _caches = new CacheRoad(model, adapters, MaxBytes);
    }

    /// <summary>All ways.</summary>
    internal IReadOnlyList<ITextRoad> All => [_caches];

    /// <summary>Maximum number of bytes of all states.</summary>
    internal long MaxBytes { get; }

    /// <summary>Number of tokens whose states are held.</summary>
    internal long CachedTokens => All.Sum(static r => r.CachedTokens);

    /// <summary>Bytes of the states of texts that are generated.</summary>
    internal long UsedBytes => All.Sum(static r => r.UsedBytes);

    /// <summary>Bytes of the states that are kept.</summary>
    internal long KeptBytes => All.Sum(static r => r.KeptBytes);

    /// <summary>The way of a text.</summary>
    /// <param name="text">The text, with its adapter.</param>
    internal ITextRoad Of(EngineText text) => _caches;

    /// <summary>Forgets what they know about the model's modules and of adapters that are no longer loaded.</summary>
    internal void Renew()
    {
        foreach (var road in All)
        {
            road.Renew();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var road in All)
        {
            road.Dispose();
        }
    }
}
