using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Distributed;

/// <summary>What ranks tell each other besides gradients and weights. Every rank calls the same members in the same order, and all get the same answers.</summary>
internal static class RankExchanges
{
    /// <summary>
    /// The rank that computes an item of a list: items are dealt out forwards and backwards in turn, so that ranks get as much of a list that is
    /// ordered by size.
    /// </summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="item">Number of the item, from 0.</param>
    internal static int OwnerOf(this RankGroup ranks, int item)
    {
        var (round, place) = Math.DivRem(item, ranks.Size);
        return round % 2 == 0 ? place : ranks.Size - 1 - place;
    }

    /// <summary>Whether this rank computes an item of a list.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="item">Number of the item, from 0.</param>
    internal static bool Owns(this RankGroup ranks, int item) => ranks.OwnerOf(item) == ranks.Rank;

    /// <summary>The items of a list that this rank computes, with their numbers.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="items">The items.</param>
    internal static IEnumerable<(int Number, T Item)> Share<T>(this RankGroup ranks, IReadOnlyList<T> items) =>
        Enumerable.Range(0, items.Count).Where(i => ranks.Owns(i)).Select(i => (i, items[i]));

    /// <summary>As <see cref="Share"/>, but every rank has as many: one that would have less has some of another's again.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="items">The items.</param>
    internal static IEnumerable<(T Item, bool IsOwn)> ShareEvenly<T>(this RankGroup ranks, IReadOnlyList<T> items)
    {
        var own = ranks.Share(items).Select(static i => (i.Item, true)).ToList();
        return items.Count == 0 ? own : own.Concat(Enumerable.Repeat((items[0], false), ((items.Count + ranks.Size - 1) / ranks.Size) - own.Count));
    }

    /// <summary>The consecutive items of a list that this rank makes, where their results are joined afterwards.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="count">Number of items.</param>
    internal static Range PartOf(this RankGroup ranks, int count) => (int)((long)count * ranks.Rank / ranks.Size)..(int)((long)count * (ranks.Rank + 1) / ranks.Size);

    /// <summary>Numbers of all ranks, in the order of ranks; as many of each.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="values">This rank's numbers.</param>
    /// <param name="device">Device of the engine's tensors: the model's.</param>
    internal static double[][] Gather(this RankGroup ranks, double[] values, Device device)
    {
        if (ranks.IsAlone)
        {
            return [values];
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var all = zeros([(long)values.Length * ranks.Size], float64, device);
        ranks.Collectives.BeginAllGather(tensor(values, float64).to(device), all).Wait();
        return [.. MemoryMarshal.Cast<byte, double>(all.cpu().bytes).ToArray().Chunk(values.Length)];
    }

    /// <summary>Sums numbers over all ranks, in the order of ranks, so that all ranks get the same bits.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="values">This rank's numbers.</param>
    /// <param name="device">Device of the engine's tensors: the model's.</param>
    internal static double[] Add(this RankGroup ranks, double[] values, Device device) =>
        ranks.Gather(values, device).Aggregate((sums, next) => [.. sums.Zip(next, static (a, b) => a + b)]);

    /// <summary>Whether it holds on any rank.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="value">Whether it does on this one.</param>
    /// <param name="device">Device of the engine's tensors: the model's.</param>
    internal static bool Any(this RankGroup ranks, bool value, Device device) => ranks.IsAlone ? value : ranks.Add([value ? 1 : 0], device)[0] > 0;

    /// <summary>Bytes of all ranks, in the order of ranks; any number of each.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="bytes">This rank's bytes.</param>
    /// <param name="device">Device of the engine's tensors: the model's.</param>
    internal static byte[][] Gather(this RankGroup ranks, byte[] bytes, Device device)
    {
        if (ranks.IsAlone)
        {
            return [bytes];
        }

        var lengths = ranks.Gather([bytes.Length], device);
        var longest = (int)Math.Max(1, lengths.Max(static l => l[0]));
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var all = zeros([(long)longest * ranks.Size], ScalarType.Byte, device);
        var padded = new byte[longest];
        bytes.CopyTo(padded, 0);
        ranks.Collectives.BeginAllGather(tensor(padded).to(device), all).Wait();
        var joined = all.cpu().bytes.ToArray();
        return [.. lengths.Select((l, rank) => joined[(rank * longest)..((rank * longest) + (int)l[0])])];
    }

    /// <summary>Copies tensors of the first rank to all others.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="tensors">The tensors; contiguous ones are received in place.</param>
    internal static void TakeFromFirst(this RankGroup ranks, IEnumerable<Tensor> tensors)
    {
        if (ranks.IsAlone)
        {
            return;
        }

        using var nothing = no_grad();
        foreach (var given in tensors)
        {
            using var scope = NewDisposeScope();
            var (values, whole) = (given.detach(), given.is_contiguous());
            var sent = whole ? values : values.contiguous();
            ranks.Collectives.BeginBroadcast(sent, 0).Wait();
            if (!whole)
            {
                _ = values.copy_(sent);
            }
        }
    }

    /// <summary>Waits until all ranks are here.</summary>
    /// <param name="ranks">The ranks.</param>
    internal static void Meet(this RankGroup ranks)
    {
        if (!ranks.IsAlone)
        {
            _ = ranks.Channel.Exchange("");
        }
    }

    /// <summary>Waits until all ranks are here, however long others get on with what they do.</summary>
    /// <param name="ranks">The ranks.</param>
    internal static void MeetPatiently(this RankGroup ranks)
    {
        if (!ranks.IsAlone)
        {
            _ = ranks.Channel.ExchangePatiently("");
        }
    }

    /// <summary>Number of ranks on this rank's host.</summary>
    /// <param name="ranks">The ranks.</param>
    internal static int OnThisHost(this RankGroup ranks) => ranks.IsAlone ? 1 : ranks.Channel.Hosts.Count(h => h == ranks.Channel.Hosts[ranks.Rank]);

    /// <summary>Does what leaves files behind that the next call finds: first on one rank of each host, then on the others, which wait as long as it gets on.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="kind">What it is, such as "reading the data"; null for what waits for others than the ranks, and has limits of its own.</param>
    /// <param name="work">The work.</param>
    internal static T OncePerHost<T>(this RankGroup ranks, string? kind, Func<T> work)
    {
        if (ranks.IsAlone)
        {
            return work();
        }

        T Done()
        {
            using var doing = kind is null ? ranks.Activity?.Outside() : ranks.Activity?.Do(kind);
            return work();
        }

        var hosts = ranks.Channel.Hosts;
        if (hosts.Take(ranks.Rank).Contains(hosts[ranks.Rank]))
        {
            _ = ranks.Channel.ExchangePatiently("");
            return Done();
        }

        var done = Done();
        _ = ranks.Channel.ExchangePatiently("");
        return done;
    }
}
