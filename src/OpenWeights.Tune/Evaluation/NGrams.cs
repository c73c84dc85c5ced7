using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Evaluation;

/// <summary>Runs of neighbouring items and how often each comes.</summary>
internal static class NGrams
{
    /// <summary>The runs of a length in items, joined by a separator that no item holds.</summary>
    internal static Dictionary<string, int> Count(IReadOnlyList<string> items, int length)
    {
        var counts = new Dictionary<string, int>(StringComparer.Ordinal);
        for (var i = 0; i + length <= items.Count; i++)
        {
            CollectionsMarshal.GetValueRefOrAddDefault(counts, string.Join(' ', items.Skip(i).Take(length)), out _)++;
        }

        return counts;
    }

    /// <summary>How many runs two texts share, each counted as often as in the text that has fewer of it.</summary>
    internal static long Shared(Dictionary<string, int> left, Dictionary<string, int> right) =>
        left.Sum(pair => (long)Math.Min(pair.Value, right.GetValueOrDefault(pair.Key)));
}
