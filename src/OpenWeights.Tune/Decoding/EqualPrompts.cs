using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Decoding;

/// <summary>Which prompts of a batch are equal, such as those of several answers to one question.</summary>
internal sealed class EqualPrompts
{
    private readonly List<int> _firsts = [];

    private EqualPrompts(IReadOnlyList<int[]> prompts, IReadOnlyList<string?>? adapters)
    {
        var found = new Dictionary<int, List<int>>();
        var groups = new int[prompts.Count];
        for (var i = 0; i < groups.Length; i++)
        {
            var hash = new HashCode();
            hash.AddBytes(MemoryMarshal.AsBytes<int>(prompts[i]));
            ref var alike = ref CollectionsMarshal.GetValueRefOrAddDefault(found, hash.ToHashCode(), out _);
            alike ??= [];
            var group = alike.FindIndex(g => prompts[_firsts[g]].AsSpan().SequenceEqual(prompts[i]) && adapters?[_firsts[g]] == adapters?[i]);
            groups[i] = group >= 0 ? alike[group] : _firsts.Count;
            if (group < 0)
            {
                alike.Add(_firsts.Count);
                _firsts.Add(i);
            }
        }

        Groups = groups;
    }

    /// <summary>Number of different prompts.</summary>
    internal int Count => _firsts.Count;

    /// <summary>For each prompt, which of the different ones it is.</summary>
    internal IReadOnlyList<int> Groups { get; }

    /// <summary>Finds equal prompts; null if all differ.</summary>
    /// <param name="prompts">The prompts.</param>
    /// <param name="adapters">Name of each one's adapter, where adapters are active by row: only prompts with the same one compute alike.</param>
    internal static EqualPrompts? Of(IReadOnlyList<int[]> prompts, IReadOnlyList<string?>? adapters)
    {
        var found = new EqualPrompts(prompts, adapters);
        return found.Count < prompts.Count ? found : null;
    }

    /// <summary>What belongs to the first of each of the different prompts.</summary>
    /// <param name="each">What belongs to each prompt.</param>
    internal T[] First<T>(IReadOnlyList<T> each) => [.. _firsts.Select(i => each[i])];
}
