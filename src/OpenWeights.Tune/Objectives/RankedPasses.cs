using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Objectives;

/// <summary>Passes of a model that ranks divide among them.</summary>
internal static class RankedPasses
{
    /// <summary>
    /// The items of a list whose passes this rank computes. Ranks that share out a model's weights compute as many passes as each other: one that would have fewer
    /// computes some that do not count.
    /// </summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="items">The items.</param>
    /// <param name="model">The model that computes them.</param>
    internal static IEnumerable<(T Item, bool IsOwn)> Passes<T>(this RankGroup ranks, IReadOnlyList<T> items, CausalLanguageModel model) =>
        model.Stack.LayerWeights is null ? ranks.Share(items).Select(static i => (i.Item, true)) : ranks.ShareEvenly(items);
}
