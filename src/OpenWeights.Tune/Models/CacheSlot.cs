namespace OpenWeights.Tune.Models;

/// <summary>Where a layer's cache has room for one token, behind those that it can see. Each head's keys lie in one piece, as do its values.</summary>
/// <param name="Keys">The keys of the first row's first head, in the CPU's memory.</param>
/// <param name="Values">The values likewise.</param>
/// <param name="Capacity">From a head to the next, in tokens.</param>
/// <param name="Start">The place of the first token that can be seen.</param>
/// <param name="Seen">How many tokens can be seen; the new one's place follows on them.</param>
internal readonly record struct CacheSlot(nint Keys, nint Values, nint Capacity, nint Start, nint Seen);
