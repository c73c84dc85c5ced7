using System.Globalization;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Benchmarks;

namespace OpenWeights.Tune.Tests.Benchmarks;

/// <summary>The table of docs/scaling.md is what the simulation gives.</summary>
public sealed class ScalingTableTests
{
    // Llama 3 8B in bfloat16 with gradients summed in float32; 8,192 tokens of a rank at once, at 400 teraflops.
    private const double LayerElements = 218_112_000, HeadElements = 525_336_576, Tokens = 8192, Rate = 4e14;

    private static IEnumerable<(string Name, int Ranks, SimulatedLink Link)> Machines()
    {
        yield return ("8 GPUs, NVLink", 8, new SimulatedLink(300e9, 20e-6));
        yield return ("64 GPUs, 400 Gbit/s each", 64, new SimulatedLink(45e9, 60e-6));
        yield return ("64 GPUs, 100 Gbit/s each", 64, new SimulatedLink(11e9, 60e-6));
    }

    [Test]
    public void The_table_of_the_documentation_is_that_of_the_simulation()
    {
        var lines = File.ReadAllLines(Path.Combine(SharedFiles.Root, "docs", "scaling.md"));
        Assert.That(Rows().Where(r => !lines.Contains(r)), Is.Empty, string.Join('\n', Rows()));
    }

    private static IEnumerable<string> Rows()
    {
        foreach (var (name, ranks, link) in Machines())
        {
            foreach (var shard in new[] { "none", "optimizer", "gradients", "parameters" })
            {
                string Cell(double gradientShare, int batches)
                {
                    var step = ScalingSimulation.Of(Layers(gradientShare), ranks, shard, batches, link);
                    return string.Create(CultureInfo.InvariantCulture, $"{step.SentBytes / 1e9:F1} GB, {100 * step.Efficiency:F0} %");
                }

                // LoRA of rank 16 on all linear layers trains 42 of 8,030 million.
                yield return $"| {name} | {shard} | {Cell(1, 1)} | {Cell(1, 4)} | {Cell(42.0 / 8030, 1)} |";
            }
        }
    }

    private static List<SimulatedLayer> Layers(double gradientShare)
    {
        static double Seconds(double elements, double passes) => 2 * elements * Tokens * passes / Rate;
        SimulatedLayer Of(double elements) => new(2 * elements, 4 * elements * gradientShare, Seconds(elements, 1), Seconds(elements, 3));
        return [new SimulatedLayer(2 * HeadElements, 4 * HeadElements * gradientShare, 0, 0) { IsGatheredOnce = true }, .. Enumerable.Repeat(Of(LayerElements), 32), new SimulatedLayer(2 * HeadElements, 4 * HeadElements * gradientShare, Seconds(HeadElements, 1), Seconds(HeadElements, 2)) { IsGatheredOnce = true }];
    }
}
