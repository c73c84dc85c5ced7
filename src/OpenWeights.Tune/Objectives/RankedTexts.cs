using System.Runtime.InteropServices;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Objectives;

/// <summary>Texts that ranks generate together.</summary>
internal static class RankedTexts
{
    /// <summary>Generates a text after each prompt, each rank some of them; all ranks get all.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="prompts">The prompts.</param>
    /// <param name="model">The model that generates them.</param>
    /// <param name="generate">Generates the texts after some consecutive prompts, of which the number of the first is given.</param>
    internal static IReadOnlyList<IReadOnlyList<int>> Divided(this RankGroup ranks, int[][] prompts, CausalLanguageModel model, Func<int[][], int, IReadOnlyList<IReadOnlyList<int>>> generate)
    {
        var part = ranks.PartOf(prompts.Length);
        var own = prompts[part];
        var made = own.Length > 0 ? generate(own, part.Start.Value) : [];
        if (ranks.IsAlone)
        {
            return made;
        }

        model.Stack.LayerWeights?.TakePart();

        // The length of each text, and its tokens.
        int[] flat = [.. made.SelectMany(static t => t.Prepend(t.Count))];
        return [.. ranks.Gather(MemoryMarshal.AsBytes<int>(flat).ToArray(), model.Device).SelectMany(static b => Texts(MemoryMarshal.Cast<byte, int>(b).ToArray()))];
    }

    private static IEnumerable<IReadOnlyList<int>> Texts(int[] flat)
    {
        for (var at = 0; at < flat.Length; at += flat[at] + 1)
        {
            yield return flat[(at + 1)..(at + 1 + flat[at])];
        }
    }
}
