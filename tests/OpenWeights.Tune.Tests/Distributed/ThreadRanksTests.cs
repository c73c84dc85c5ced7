using NUnit.Framework;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Distributed;

/// <summary>The collectives of ranks that are threads, on which other tests rest, give what their definitions say.</summary>
[TestFixture]
public sealed class ThreadRanksTests
{
    [Test]
    public void Collectives_give_what_their_definitions_say([Values(1, 2, 3, 5)] int size) => ThreadRanks.Run(size, group =>
    {
        using var scope = NewDisposeScope();
        var (ranks, rank) = (group.Collectives, group.Rank);
        var mine = arange(size * 2, float32).add(rank);
        var sum = (arange(size * 2, float32) * size) + (size * (size - 1) / 2);
        var (all, part, joined, swapped) = (mine.clone(), zeros(2), zeros(size * 2), zeros(size * 2));
        ranks.BeginAllReduceSum(all).Wait();
        ranks.BeginReduceScatterSum(mine.clone(), part).Wait();
        ranks.BeginAllGather(part, joined).Wait();
        ranks.BeginAllToAll(mine, swapped).Wait();
        var first = mine.clone();
        ranks.BeginBroadcast(first, size - 1).Wait();
        Assert.Multiple(() =>
        {
            Assert.That(all.eq(sum).all().ToBoolean());
            Assert.That(part.eq(sum.narrow(0, rank * 2, 2)).all().ToBoolean());
            Assert.That(joined.eq(sum).all().ToBoolean());
            Assert.That(swapped.eq(cat([.. Enumerable.Range(0, size).Select(r => arange(rank * 2, (rank * 2) + 2, float32).add(r))])).all().ToBoolean());
            Assert.That(first.eq(arange(size * 2, float32).add(size - 1)).all().ToBoolean());
            Assert.That(group.Channel.Exchange($"{rank}"), Is.EqualTo(Enumerable.Range(0, size).Select(static r => $"{r}")));
        });
    });
}
