using OpenWeights.Tune.Distributed;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Distributed;

/// <summary>Ranks that are threads of this process: collectives over its memory, for tests. Sums are in the order of ranks.</summary>
internal sealed class ThreadRanks : IDisposable
{
    private readonly Barrier _barrier;
    private readonly Tensor[] _given;
    private readonly string[] _texts;

    private ThreadRanks(int size) => (_barrier, _given, _texts) = (new Barrier(size), new Tensor[size], new string[size]);

    /// <summary>Runs an action on each of several ranks at once, and waits for all.</summary>
    /// <param name="size">Number of ranks.</param>
    /// <param name="action">Gets the rank's group.</param>
    /// <exception cref="AggregateException">Ranks failed.</exception>
    internal static void Run(int size, Action<RankGroup> action)
    {
        using var ranks = new ThreadRanks(size);
        var failures = new Exception?[size];
        var threads = Enumerable.Range(0, size).Select(rank => new Thread(() =>
        {
            try
            {
                using var group = new RankGroup(new OneRank(ranks, rank), new Channel(ranks, rank));
                action(group);
            }
            catch (Exception failure)
            {
                // The others must not wait for this rank.
                failures[rank] = failure;
                ranks._barrier.RemoveParticipant();
            }
        })).ToList();
        threads.ForEach(static t => t.Start());
        threads.ForEach(static t => t.Join());
        if (failures.OfType<Exception>().ToList() is { Count: > 0 } thrown)
        {
            throw new AggregateException(thrown);
        }
    }

    public void Dispose() => _barrier.Dispose();

    private sealed class Done : IPendingCollective
    {
        public void Wait()
        {
        }
    }

    private sealed class OneRank(ThreadRanks ranks, int rank) : ICollectives
    {
        public int Rank => rank;

        public int Size => ranks._given.Length;

        public string Name => "threads";

        public IPendingCollective BeginAllReduceSum(Tensor values) => Together(values, () => Sum(static t => t), values);

        public IPendingCollective BeginReduceScatterSum(Tensor values, Tensor part) => Together(values, () => Sum(t => t.narrow(0, rank * part.numel(), part.numel())), part);

        public IPendingCollective BeginAllGather(Tensor part, Tensor values) => Together(part, () => cat(ranks._given), values);

        public IPendingCollective BeginBroadcast(Tensor values, int root) => Together(values, () => ranks._given[root].clone(), values);

        public IPendingCollective BeginAllToAll(Tensor sent, Tensor received) =>
            Together(sent, () => cat([.. ranks._given.Select(t => t.narrow(0, rank * (t.numel() / Size), t.numel() / Size))]), received);

        public void Dispose()
        {
        }

        private Tensor Sum(Func<Tensor, Tensor> part) => ranks._given.Skip(1).Aggregate(part(ranks._given[0]).clone(), (sum, t) => sum.add_(part(t)));

        // Every rank reads what all have given before any writes its result.
        private Done Together(Tensor given, Func<Tensor> read, Tensor result)
        {
            using var nothing = no_grad();
            using var scope = NewDisposeScope();
            ranks._given[rank] = given;
            ranks._barrier.SignalAndWait();
            var value = read();
            ranks._barrier.SignalAndWait();
            _ = result.copy_(value.view(result.shape));
            ranks._barrier.SignalAndWait();
            return new Done();
        }
    }

    private sealed class Channel(ThreadRanks ranks, int rank) : IRankChannel
    {
        public IReadOnlyList<string> Hosts => [.. ranks._texts.Select(static _ => "here")];

        public CancellationToken Failed => CancellationToken.None;

        public string? Failure => null;

        public IReadOnlyList<string> Exchange(string text)
        {
            ranks._texts[rank] = text;
            ranks._barrier.SignalAndWait();
            string[] all = [.. ranks._texts];
            ranks._barrier.SignalAndWait();
            return all;
        }

        public void Fail(string cause) => throw new InvalidOperationException(cause);

        public void Dispose()
        {
        }
    }
}
