using NUnit.Framework;
using OpenWeights.Tune.Benchmarks.Parts;
using OpenWeights.Tune.Tests.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Benchmarks;

/// <summary>The benchmarks of the parts compare like with like.</summary>
public sealed class PartTests
{
    private static readonly Func<Part>[] s_parts =
    [
        static () => new AttentionPart { IsSmall = true },
        static () => new FewRowsPart { IsSmall = true },
        static () => new GatePart { IsSmall = true },
        static () => new HeadLossPart { IsSmall = true },
        static () => new MatrixProductPart { IsSmall = true },
        static () => new NormPart { IsSmall = true },
        static () => new OptimizerPart { IsSmall = true },
        static () => new ProjectionsPart { IsSmall = true },
        static () => new ReadPart { IsSmall = true },
    ];

    [Test]
    public void Every_part_gives_the_numbers_that_its_baseline_gives([ValueSource(nameof(s_parts))] Func<Part> make, [Values("float32", "bfloat16")] string precision)
    {
        var part = make();
        part.Precision = precision;
        part.Setup();
        try
        {
            using var scope = NewDisposeScope();
            var (own, composed) = (part.Own(), part.Composition());
            Assert.That(own, Has.Count.EqualTo(composed.Count));

            // Both round, each at most eight times on the longest way from an input to a result: attention's gradients.
            Assert.That(Composed.Difference([.. own], [.. composed]), Is.LessThan(precision == "float32" ? 1e-5 : 2 * 8 * Composed.BFloat16Rounding), part.GetType().Name);
            Assert.That(part.Work, Is.Positive);
            part.Library();
            part.Composed();
        }
        finally
        {
            part.Cleanup();
        }
    }

    [Test]
    public void Every_part_is_among_those_that_are_tested() =>
        Assert.That(typeof(Part).Assembly.GetTypes().Where(static t => t.IsSubclassOf(typeof(Part)) && !t.IsAbstract).Select(static t => t.Name), Is.EquivalentTo(s_parts.Select(static make => make().GetType().Name)));

    [Test]
    public void Tokens_of_the_text_that_is_measured_are_the_text()
    {
        var part = new TokenizePart();
        part.Setup();
        var ids = part.Encode();
        Assert.That(part.Decode(ids), Is.EqualTo(part.Text));
        Assert.That(part.Library(), Is.EqualTo(ids.Length).And.LessThan(part.Text.Length));
    }
}
