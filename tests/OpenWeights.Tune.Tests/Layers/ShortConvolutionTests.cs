using NUnit.Framework;
using OpenWeights.Tune.Layers.Mixers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Layers;

/// <summary>The short convolution against torch's own, in float64, one document at a time.</summary>
public sealed class ShortConvolutionTests
{
    private const int Configurations = 200;

    [Test]
    public void Outputs_and_gradients_are_those_of_each_document_alone()
    {
        for (var i = 0; i < Configurations; i++)
        {
            using var scope = NewDisposeScope();
            var problem = Problem.Of(new Random(i));
            var inputs = problem.Inputs.clone().requires_grad_();
            using var convolution = problem.Make();
            var output = convolution.Run(inputs, problem.Documents, null);
            var wide = problem.Inputs.to(float64).requires_grad_();
            var (weight, bias) = (problem.Weight.to(float64).requires_grad_(), problem.Bias?.to(float64).requires_grad_());
            var expected = problem.Expected(wide, weight, bias);
            Assert.That(Golden.LargestDifference(output, expected), Is.LessThan(1e-5), problem.ToString());
            var given = randn(output.shape);
            output.mul(given).sum().backward();
            expected.mul(given).sum().backward();
            Tensor[] computed = [inputs, .. convolution.parameters()];
            foreach (var (own, exact) in computed.Zip(new[] { wide, weight, bias }))
            {
                Assert.That(Golden.LargestDifference(own.grad!, exact!.grad!), Is.LessThan(1e-4), problem.ToString());
            }
        }
    }

    [Test]
    public void A_text_read_in_pieces_is_convolved_as_the_whole()
    {
        using var nothing = no_grad();
        for (var i = 0; i < Configurations; i++)
        {
            using var scope = NewDisposeScope();
            var random = new Random(1000 + i);
            var problem = Problem.Of(random);
            using var convolution = problem.Make();
            using var state = new ConvolutionState(convolution.Kernel - 1);
            var parts = new List<Tensor>();
            for (var start = 0; start < problem.Tokens;)
            {
                var count = Math.Min(random.Next(1, 6), problem.Tokens - start);
                parts.Add(convolution.Run(problem.Inputs.narrow(1, start, count), problem.Documents?.narrow(1, start, count), state));
                start += count;
            }

            Assert.That(Golden.LargestDifference(cat(parts, 1), convolution.Run(problem.Inputs, problem.Documents, null)), Is.LessThan(1e-6), problem.ToString());
        }
    }

    private sealed record Problem(int Batch, int Tokens, int Channels, int Kernel, bool Activates)
    {
        internal required Tensor Inputs { get; init; }

        internal required Tensor Weight { get; init; }

        internal Tensor? Bias { get; init; }

        internal Tensor? Documents { get; init; }

        internal static Problem Of(Random random)
        {
            var (batch, tokens, channels, kernel) = (random.Next(1, 4), random.Next(1, 40), random.Next(1, 6), random.Next(1, 6));
            var generator = new Generator((ulong)random.Next());
            var documents = new long[batch * tokens];
            for (var i = 1; i < documents.Length; i++)
            {
                documents[i] = i % tokens == 0 ? 0 : documents[i - 1] + (random.Next(5) == 0 ? 1 : 0);
            }

            return new Problem(batch, tokens, channels, kernel, random.Next(2) == 0)
            {
                Inputs = randn([batch, tokens, channels], generator: generator),
                Weight = randn([channels, 1, kernel], generator: generator),
                Bias = random.Next(2) == 0 ? randn([channels], generator: generator) : null,
                Documents = random.Next(2) == 0 ? tensor(documents, [batch, tokens]) : null,
            };
        }

        internal ShortConvolution Make() => new(new Parameter(Weight.clone()), Bias is null ? null : new Parameter(Bias.clone()), Activates);

        internal Tensor Expected(Tensor inputs, Tensor weight, Tensor? bias)
        {
            var rows = Enumerable.Range(0, Batch).Select(row =>
            {
                long[] ids = Documents is null ? new long[Tokens] : [.. Documents[row].data<long>()];
                var documents = ids.GroupBy(static id => id).Select(static g => g.Count());
                var start = 0;
                var parts = new List<Tensor>();
                foreach (var length in documents)
                {
                    var padded = nn.functional.pad(inputs[row].narrow(0, start, length).t(), [Kernel - 1, 0]);
                    parts.Add(nn.functional.conv1d(padded.unsqueeze(0), weight, bias, groups: Channels)[0].t());
                    start += length;
                }

                return cat(parts, 0);
            });
            var sum = stack(rows, 0);
            return Activates ? nn.functional.silu(sum) : sum;
        }
    }
}
