using System.Diagnostics;
using System.Globalization;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Distributed.Engines.Mpi;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Distributed.Processes;

/// <summary>What ranks that are processes do in tests. Each rank prints "rank R: ..." for what it found right.</summary>
internal static class RankScenarios
{
    private static readonly ScalarType[] s_sums = [ScalarType.Float32, ScalarType.Float64, ScalarType.Int64];
    private static readonly ScalarType[] s_all = [ScalarType.Float32, ScalarType.Float64, ScalarType.Int64, ScalarType.BFloat16, ScalarType.Float16, ScalarType.Byte, ScalarType.Int8, ScalarType.Int32, ScalarType.Bool];

    // Lengths of a part: none, one, odd ones, and such as need several pieces and are no multiple of them.
    private static readonly int[] s_lengths = [0, 1, 7, 1000, 4097, 300_001];

    internal static void Run(RankGroup group, string scenario)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        switch (scenario)
        {
            case "collectives":
                Collectives(group);
                Say(group, "all collectives gave what they are defined as");
                break;
            case "pieces":
                // Every message in many parts, as messages beyond 2 GB are.
                (MpiTransfers.MaxBytes, MpiSum.PieceBytes) = (1000, 4096);
                Collectives(group);
                Say(group, "all collectives gave what they are defined as");
                break;
            case "pending":
                Pending(group);
                Say(group, "operations that overlap gave what they are defined as");
                break;
            case "streams":
                Streams(group);
                Say(group, "operations and the GPU's other work waited for each other");
                break;
            case "train":
                RankTraining.Run(group);
                break;
            case "bench":
                Bench(group);
                break;
            default:
                RankFaults.Run(group, scenario);
                break;
        }
    }

    internal static void Say(RankGroup group, string text) => Console.WriteLine($"rank {group.Rank}: {text}");

    private static void Collectives(RankGroup group)
    {
        var seed = 0;
        foreach (var length in s_lengths)
        {
            foreach (var dtype in s_all)
            {
                using var scope = NewDisposeScope();
                new OneCase(group, dtype, length, ++seed).CheckMoves();
                if (s_sums.Contains(dtype))
                {
                    new OneCase(group, dtype, length, ++seed).CheckSums();
                }
            }
        }

        Require(group.Channel.Exchange($"{group.Rank}\nä").SequenceEqual(Enumerable.Range(0, group.Size).Select(static r => $"{r}\nä")), "exchange of texts");
        if (group.Collectives.Name.StartsWith("NCCL", StringComparison.Ordinal))
        {
            // This sum waits for the GPU by copying from it, which the stand-in's memory does not need.
            return;
        }

        Require(group.Sum([group.Rank, 0.5], CPU).SequenceEqual([group.Size * (group.Size - 1) / 2.0, group.Size * 0.5]), "sum of numbers");
    }

    // Operations of many sizes begin one after another, and are waited for in another order, which differs from rank to rank.
    private static void Pending(RankGroup group)
    {
        var random = new Random(7);
        for (var round = 0; round < 20; round++)
        {
            using var scope = NewDisposeScope();
            var checks = new List<(IPendingCollective Pending, Action Check)>();
            for (var i = 0; i < 12; i++)
            {
                var one = new OneCase(group, ScalarType.Float32, random.Next(3) switch { 0 => random.Next(50), 1 => random.Next(5000), _ => random.Next(400_000) }, (round * 100) + i);
                checks.AddRange(one.Begin(random.Next(5)));
            }

            var own = new Random((round * 31) + group.Rank);
            foreach (var (pending, check) in checks.OrderBy(_ => own.Next()))
            {
                pending.Wait();
                check();
            }
        }
    }

    // What the GPU computes before an operation is in it, and what it computes after Wait has its result, though the program waits for nothing.
    private static void Streams(RankGroup group)
    {
        for (var round = 1; round <= 5; round++)
        {
            var (values, result) = (zeros(5000, float32), zeros(5000, float32));
            StandInGpu.FillLate(values, round * (group.Rank + 1));
            group.Collectives.BeginAllReduceSum(values).Wait();
            StandInGpu.Copy(result, values);
            StandInGpu.Synchronize();
            Require(result.eq(round * group.Size * (group.Size + 1) / 2).all().ToBoolean(), $"the sum of round {round}");
        }
    }

    private static void Bench(RankGroup group)
    {
        foreach (var bytes in new[] { 8, 1 << 14, 1 << 20, 1 << 24, 1 << 27 })
        {
            var values = zeros(bytes / 4, float32);
            var gathered = zeros(bytes / 4 / group.Size * group.Size, float32);
            var part = gathered.narrow(0, 0, gathered.numel() / group.Size).clone();
            var rounds = Math.Clamp((1 << 27) / bytes, 3, 2000);
            foreach (var (name, action) in new (string, Func<IPendingCollective>)[]
            {
                ("all-reduce", () => group.Collectives.BeginAllReduceSum(values)),
                ("reduce-scatter", () => group.Collectives.BeginReduceScatterSum(gathered, part)),
                ("all-gather", () => group.Collectives.BeginAllGather(part, gathered)),
                ("broadcast", () => group.Collectives.BeginBroadcast(values, 0)),
            })
            {
                action().Wait();
                var watch = Stopwatch.StartNew();
                for (var i = 0; i < rounds; i++)
                {
                    action().Wait();
                }

                if (group.IsFirst)
                {
                    var seconds = watch.Elapsed.TotalSeconds / rounds;
                    Say(group, string.Create(CultureInfo.InvariantCulture, $"{name} of {bytes} bytes: {seconds * 1e6:0} us, {bytes / seconds / 1e9:0.00} GB/s"));
                }
            }
        }
    }

    internal static void Require(bool isSo, string what)
    {
        if (!isSo)
        {
            throw new InvalidOperationException($"{what} is not as defined");
        }
    }

    /// <summary>Numbers of all ranks, which each rank can make by itself, and what collectives make of them.</summary>
    private sealed class OneCase
    {
        // What a rank gives begins at one of so many places among the numbers.
        private const int Starts = 1 << 20;

        // Sums of such numbers depend on their order.
        private static readonly double[] s_numbers = MakeNumbers(Starts + (4 * 400_000));

        private readonly RankGroup _group;
        private readonly int _length;
        private readonly int _root;
        private readonly string _name;
        private readonly Tensor[] _given;

        internal OneCase(RankGroup group, ScalarType dtype, int length, int seed)
        {
            (_group, _length, _root, _name) = (group, length, seed % group.Size, $"{length} {dtype}");

            _given = [.. Enumerable.Range(0, group.Size).Select(rank =>
                tensor(s_numbers.AsSpan(new Random((seed * 1000) + rank).Next(Starts), length * group.Size).ToArray(), float64).to(dtype))];
        }

        private Tensor Mine => _given[_group.Rank];

        private Tensor Sum => _given.Skip(1).Aggregate(_given[0].clone(), static (sum, t) => sum.add_(t));

        internal void CheckMoves()
        {
            foreach (var (pending, check) in Begin(1).Concat(Begin(2)).Concat(Begin(3)))
            {
                pending.Wait();
                check();
            }
        }

        internal void CheckSums()
        {
            foreach (var (pending, check) in Begin(0).Concat(Begin(4)))
            {
                pending.Wait();
                check();
            }
        }

        internal IEnumerable<(IPendingCollective Pending, Action Check)> Begin(int kind)
        {
            var ranks = _group.Collectives;
            switch (kind)
            {
                case 0:
                    // Not divisible by the number of ranks.
                    var odd = Mine.narrow(0, 0, Math.Max(0, Mine.numel() - 1)).clone();
                    yield return (ranks.BeginAllReduceSum(odd), () => Same("all-reduce", odd, Sum.narrow(0, 0, odd.numel())));
                    break;
                case 1:
                    var (part, all) = (Part(Mine, 0).clone(), empty_like(Mine));
                    yield return (ranks.BeginAllGather(part, all), () => Same("all-gather", all, cat([.. _given.Select(g => Part(g, 0))])));

                    var places = Mine.clone();
                    yield return (ranks.BeginAllGather(Part(places, _group.Rank), places), () => Same("all-gather in place", places, cat([.. _given.Select(Part)])));
                    break;
                case 2:
                    var copy = Mine.clone();
                    yield return (ranks.BeginBroadcast(copy, _root), () => Same("broadcast", copy, _given[_root]));
                    break;
                case 3:
                    var (sent, received) = (Mine.clone(), empty_like(Mine));
                    yield return (ranks.BeginAllToAll(sent, received), () => Same("all-to-all", received, cat([.. _given.Select(g => Part(g, _group.Rank))])));
                    break;
                default:
                    var (values, sum) = (Mine.clone(), empty_like(Part(Mine, 0)));
                    yield return (ranks.BeginReduceScatterSum(values, sum), () => Same("reduce-scatter", sum, Part(Sum, _group.Rank)));
                    break;
            }
        }

        private static double[] MakeNumbers(int count)
        {
            var random = new Random(5);
            var numbers = new double[count];
            for (var i = 0; i < count; i++)
            {
                numbers[i] = (random.NextDouble() - 0.5) * (1 << random.Next(12));
            }

            return numbers;
        }

        private Tensor Part(Tensor values, int part) => values.narrow(0, part * _length, _length);

        private void Same(string what, Tensor found, Tensor expected)
        {
            StandInGpu.Synchronize();
            Require(found.dtype == expected.dtype && found.bytes.SequenceEqual(expected.contiguous().bytes), $"{what} of {_name} among {_group.Size} ranks");
        }
    }
}
