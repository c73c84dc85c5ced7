using OpenWeights.Tune.Training.Memory;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>The memory of ranks as a table.</summary>
internal static class RankTable
{
    /// <summary>Writes it.</summary>
    /// <param name="ranks">A line for each kind of sharing.</param>
    /// <param name="count">Number of ranks.</param>
    /// <param name="each">Memory of each rank's device; null if it was not given.</param>
    internal static void Write(IReadOnlyList<RankMemory> ranks, int count, long? each)
    {
        Console.Out.WriteLine($"Each of {count} {(count == 1 ? "rank" : "ranks")}, by parallel.shard; sent is what a rank sends in a step of the optimizer.");
        Console.Out.WriteLine($"{"shard",-12}{"weights",12}{"gradients",12}{"optimizer",12}{"activations",13}{"other",12}{"peak",12}{"sent",12}");
        foreach (var rank in ranks)
        {
            var fits = each is { } bytes ? rank.FitsInto(bytes) ? $"  fits into {Amount.Bytes(bytes)}" : $"  too large for {Amount.Bytes(bytes)}" : "";
            Console.Out.WriteLine($"{rank.Shard,-12}{Amount.Bytes(rank.Weights),12}{Amount.Bytes(rank.Gradients),12}{Amount.Bytes(rank.Optimizer),12}{Amount.Bytes(rank.Activations),13}{Amount.Bytes(rank.Other),12}{Amount.Bytes(rank.Total),12}{Amount.Bytes(rank.Sent),12}{fits}");
        }

        if (each is not null)
        {
            Console.Out.WriteLine($"A run may use {100 * AvailableMemory.Share:F0} % of a device's memory.");
        }
    }
}
