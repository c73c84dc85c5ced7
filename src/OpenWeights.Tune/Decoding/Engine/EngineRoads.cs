using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>The ways to compute texts, and which one is for which text.</summary>
internal sealed class EngineRoads : IDisposable
{
    // Without a limit, states may take this part of the machine's memory.
    private const int DefaultShare = 4;

    // Part of the memory of states that is for texts with caches of their own.
    private const int CacheShare = 4;

    private readonly CacheRoad _caches;
    private readonly BlockRoad? _blocks;

    /// <summary>Creates the ways.</summary>
    /// <param name="model">The model.</param>
    /// <param name="adapters">The adapters that texts can name, active by row; null if texts cannot name any.</param>
    /// <param name="options">Limits.</param>
    internal EngineRoads(CausalLanguageModel model, AdapterSet? adapters, TextEngineOptions options)
    {
        var context = ContextLimit.Of(model.Config, options.MaxPositions).Tokens;
        var free = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / DefaultShare;

        // Texts of some adapters need caches of their own besides blocks.
        _blocks = BlockRoad.Of(model, adapters, options.MaxRows, perToken => options.MaxCacheBytes is { } most ? (adapters is null ? most : most - (most / CacheShare))
            : Math.Min(free, options.MaxRows * perToken * (context + KeyValueBlocks.Tokens)));
        var rest = options.MaxCacheBytes is { } all ? all - (_blocks?.MaxBytes ?? 0) : _blocks is null ? free : _blocks.MaxBytes / CacheShare;
        _caches = new CacheRoad(model, adapters, rest);
        MaxBytes = (_blocks?.MaxBytes ?? 0) + (_blocks is null || adapters is not null ? rest : 0);
    }

    /// <summary>All ways.</summary>
    internal IReadOnlyList<ITextRoad> All => _blocks is null ? [_caches] : [_blocks, _caches];

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
    internal ITextRoad Of(EngineText text) => _blocks?.Serves(text.Adapter) == true ? _blocks : _caches;

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
