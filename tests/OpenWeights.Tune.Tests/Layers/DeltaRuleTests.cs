using NUnit.Framework;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Mixers;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Layers;

/// <summary>The gated delta rule against its definition, a token at a time in float64.</summary>
/// <param name="byKernel">Whether the kernel of CPUs computes it, or torch's operators.</param>
/// <param name="isWide">Whether the kernel has the widest vectors that there are.</param>
[TestFixture(false, false)]
[TestFixture(true, false, Category = TestDevice.CpuAlone)]
[TestFixture(true, true, Category = TestDevice.CpuAlone)]
public sealed class DeltaRuleTests(bool byKernel, bool isWide)
{
    private const int Configurations = 200;

    private readonly bool _wide = CpuKernel.IsWide;

    [SetUp]
    public void Choose() => (CpuKernel.Enabled, CpuKernel.IsWide) = (byKernel, isWide && _wide);

    [TearDown]
    public void Reset() => (CpuKernel.Enabled, CpuKernel.IsWide) = (true, _wide);

    [Test]
    public void Outputs_and_gradients_are_those_of_the_rule_token_by_token()
    {
        for (var i = 0; i < Configurations; i++)
        {
            using var scope = NewDisposeScope();
            var random = new Random(i);
            var problem = Problem.Of(random, random.Next(1, random.Next(2) == 0 ? 20 : 200));
            var leaves = problem.Leaves();
            var (output, _) = DeltaRule.Run(Inputs(leaves), problem.Documents, null);
            var wide = leaves.Select(static l => l.detach().to(float64).requires_grad_()).ToArray();
            var (expected, _) = Naive(Inputs(wide), problem.Documents, null);
            Assert.That(Golden.LargestDifference(output, expected), Is.LessThan(problem.Tolerance), problem.ToString());
            var weights = randn(output.shape, generator: new Generator((ulong)i));
            output.mul(weights).sum().backward();
            expected.mul(weights).sum().backward();
            foreach (var (computed, exact) in leaves.Zip(wide))
            {
                Assert.That(Golden.LargestDifference(computed.grad!, exact.grad!), Is.LessThan(5 * problem.Tolerance * Math.Max(1, exact.grad!.abs().max().ToDouble())), problem.ToString());
            }
        }
    }

    [Test]
    public void A_text_read_in_pieces_ends_with_the_matrices_of_the_whole()
    {
        using var nothing = no_grad();
        for (var i = 0; i < Configurations; i++)
        {
            using var scope = NewDisposeScope();
            var random = new Random(1000 + i);
            var problem = Problem.Of(random, random.Next(2, 150)) with { Documents = null };
            var leaves = problem.Leaves();
            var (whole, end) = Naive(Inputs([.. leaves.Select(static l => l.to(float64))]), null, null);
            var (parts, state) = (new List<Tensor>(), (Tensor?)null);
            for (var start = 0L; start < problem.Tokens;)
            {
                var count = Math.Min(random.Next(3) == 0 ? 1 : random.Next(1, 70), problem.Tokens - start);
                var (part, after) = DeltaRule.Run(Inputs([.. leaves.Select(l => l.narrow(1, start, count))]), null, state);
                parts.Add(part);
                (state, start) = (after, start + count);
            }

            Assert.That(Golden.LargestDifference(cat(parts, 1), whole), Is.LessThan(problem.Tolerance), problem.ToString());
            Assert.That(Golden.LargestDifference(state!, end), Is.LessThan(problem.Tolerance), problem.ToString());
        }
    }

    private static DeltaInputs Inputs(IReadOnlyList<Tensor> leaves) => new(leaves[0], leaves[1], leaves[2], leaves[3], leaves[4]);

    // The rule itself: decay, correct, read.
    private static (Tensor Output, Tensor End) Naive(DeltaInputs inputs, Tensor? documents, Tensor? start)
    {
        var group = inputs.Value.size(2) / inputs.Key.size(2);
        var (query, key) = (inputs.Query.repeat_interleave(group, 2), inputs.Key.repeat_interleave(group, 2));
        var matrix = start ?? zeros([query.size(0), query.size(2), query.size(3), inputs.Value.size(3)], query.dtype);
        var outputs = new List<Tensor>();
        for (var t = 0; t < query.size(1); t++)
        {
            if (documents is not null && t > 0)
            {
                matrix = matrix.mul(documents.select(1, t).eq(documents.select(1, t - 1)).view(-1, 1, 1, 1));
            }

            matrix = matrix.mul(inputs.Decay.select(1, t).exp().unsqueeze(-1));
            var (k, v) = (key.select(1, t).unsqueeze(-1), inputs.Value.select(1, t));
            var missing = v.sub(matrix.mul(k).sum(-2)).mul(inputs.Beta.select(1, t));
            matrix = matrix.add(k.mul(missing.unsqueeze(-2)));
            outputs.Add(matrix.mul(query.select(1, t).unsqueeze(-1)).sum(-2));
        }

        return (stack(outputs, 1), matrix);
    }

    private sealed record Problem(int Seed, long Batch, long Tokens, long KeyHeads, long Group, long KeyWidth, long ValueWidth, bool PerChannel, double Fastest, double LargestBeta)
    {
        internal Tensor? Documents { get; init; }

        // The sum of a chunk's logarithms is rounded to float32, and so off by a share of it.
        internal double Tolerance => Math.Max(2e-5, DeltaRule.LongestChunk * Fastest * Math.Pow(2, -24));

        internal static Problem Of(Random random, long tokens)
        {
            var problem = new Problem(
                random.Next(), random.Next(1, 3), tokens, random.Next(1, 4), random.Next(1, 4), random.Next(1, random.Next(2) == 0 ? 9 : 40), random.Next(1, random.Next(2) == 0 ? 9 : 40), random.Next(2) == 0,
                random.Next(3) switch { 0 => 0.05, 1 => 1, _ => 60 }, random.Next(1, 3));
            return random.Next(2) == 0 ? problem : problem with { Documents = Borders(random, problem.Batch, tokens) };
        }

        // Queries, keys, values, logarithms of decays, and betas.
        internal Tensor[] Leaves()
        {
            var generator = new Generator((ulong)Seed);
            Tensor Unit(double length) => nn.functional.normalize(randn([Batch, Tokens, KeyHeads, KeyWidth], generator: generator), dim: -1).mul(length);
            Tensor Uniform(long width, double largest) => rand([Batch, Tokens, KeyHeads * Group, width], generator: generator).mul(largest);
            Tensor[] leaves =
            [
                Unit(1 / Math.Sqrt(KeyWidth)), Unit(1), randn([Batch, Tokens, KeyHeads * Group, ValueWidth], generator: generator),
                Uniform(PerChannel ? KeyWidth : 1, -Fastest), Uniform(1, LargestBeta),
            ];
            return [.. leaves.Select(static l => l.detach().requires_grad_())];
        }

        private static Tensor Borders(Random random, long batch, long tokens)
        {
            var documents = new long[batch * tokens];
            for (var i = 1; i < documents.Length; i++)
            {
                documents[i] = i % tokens == 0 ? 0 : documents[i - 1] + (random.Next(8) == 0 ? 1 : 0);
            }

            return tensor(documents, [batch, tokens]);
        }
    }
}
