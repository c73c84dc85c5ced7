using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace OpenWeights.Tune.Distributed;

/// <summary>What must be the same on all ranks: the program's version, the config, the data.</summary>
internal static class RankAgreement
{
    private const int Shown = 80;

    /// <summary>Ends all ranks unless a value is the same on all of them.</summary>
    /// <param name="group">All ranks.</param>
    /// <param name="name">What is compared: "the version of owt".</param>
    /// <param name="value">This rank's: a short text or a fingerprint.</param>
    /// <exception cref="RankFailedException">Ranks differ; the message names them and their hosts, and is the same on all ranks.</exception>
    internal static void Require(RankGroup group, string name, string value)
    {
        if (!group.IsAlone)
        {
            Require(group.Channel, name, value);
        }
    }

    /// <summary>The same, before there is a group.</summary>
    internal static void Require(IRankChannel channel, string name, string value)
    {
        if (Difference(name, channel.Exchange(value), channel.Hosts) is { } difference)
        {
            // All ranks come to the same sentence by themselves.
            throw new RankFailedException(difference);
        }
    }

    /// <summary>Ends all ranks unless a list is the same on all of them; says which of its items is not.</summary>
    /// <param name="group">All ranks.</param>
    /// <param name="name">What is compared: "the trained tensors".</param>
    /// <param name="items">This rank's.</param>
    /// <exception cref="RankFailedException">Ranks differ; the message has the first item that does, and is the same on all ranks.</exception>
    internal static void RequireEach(RankGroup group, string name, IReadOnlyList<string> items)
    {
        if (group.IsAlone || AreSame(group, items, items.Count))
        {
            return;
        }

        // All ranks search in the same way. The first so many items are the same.
        var (same, different) = (0, (int)group.Channel.Exchange($"{items.Count}").Max(static c => long.Parse(c, CultureInfo.InvariantCulture)));
        while (different - same > 1)
        {
            var middle = (same + different) / 2;
            (same, different) = AreSame(group, items, middle) ? (middle, different) : (same, middle);
        }

        Require(group, name, same < items.Count ? items[same] : "");
        throw new RankFailedException($"{name} are not the same on all ranks.");
    }

    /// <summary>One sentence on how the ranks differ, or null.</summary>
    /// <param name="name">What is compared.</param>
    /// <param name="values">Values of all ranks.</param>
    /// <param name="hosts">Hosts of all ranks.</param>
    internal static string? Difference(string name, IReadOnlyList<string> values, IReadOnlyList<string> hosts)
    {
        var groups = values.Select(static (value, rank) => (value, rank)).GroupBy(static v => v.value, static v => v.rank, StringComparer.Ordinal).ToList();
        return groups.Count == 1
            ? null
            : $"{name} {(name.EndsWith('s') ? "are" : "is")} not the same on all ranks: {string.Join("; ", groups.Select(g => $"{Short(g.Key)} on {Ranks(g, hosts)}"))}.";
    }

    /// <summary>Names of ranks with their hosts: "ranks 0, 1 (node1) and rank 2 (node2)".</summary>
    internal static string Ranks(IEnumerable<int> ranks, IReadOnlyList<string> hosts) => string.Join(" and ", ranks.GroupBy(r => hosts[r])
        .Select(static g => g.Count() == 1 ? $"rank {g.First()} ({g.Key})" : $"ranks {string.Join(", ", g.Take(8))}{(g.Count() > 8 ? $" and {g.Count() - 8} more" : "")} ({g.Key})"));

    private static bool AreSame(RankGroup group, IReadOnlyList<string> items, int count)
    {
        var hash = SHA256.HashData(Encoding.UTF8.GetBytes($"{Math.Min(count, items.Count)}\n{string.Join('\n', items.Take(count))}"));
        return group.Channel.Exchange(Convert.ToHexStringLower(hash)).Distinct().Count() == 1;
    }

    private static string Short(string value) => value.Length == 0 ? "nothing" : value.Length <= Shown ? value : value[..Shown] + "...";
}
