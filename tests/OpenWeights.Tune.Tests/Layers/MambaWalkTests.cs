using NUnit.Framework;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Mixers;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Layers;

/// <summary>The recurrences of Mamba and Mamba-2 with random settings, in float64, against their definitions computed one token after another.</summary>
public sealed class MambaWalkTests
{
    private const int Configs = 200;
    private const double Tolerance = 1e-9;

    [Test]
    public void Mamba_2_has_the_outputs_gradients_and_states_of_its_definition()
    {
        var random = new Random(11);
        for (var i = 0; i < Configs; i++)
        {
            using var scope = NewDisposeScope();
            var (groups, perGroup) = (random.Next(1, 4), random.Next(1, 4));
            var settings = new Mamba2Settings
            {
                HiddenSize = 1,
                Heads = groups * perGroup,
                HeadDimension = random.Next(1, 5),
                Groups = groups,
                StateSize = new Dimension("state", random.Next(1, 6)),
                Kernel = new Dimension("kernel", 1),
                Limits = random.Next(2) == 0 ? new TimeStepLimits(0, double.PositiveInfinity) : new TimeStepLimits(0.3, 1.1),
                Norm = random.Next(3) == 0 ? null : new GatedNormSettings(1e-5, random.Next(2) == 0 ? 1 : groups, random.Next(2) == 0),
            };
            using var scan = new Mamba2Scan(settings) { ChunkTokens = random.Next(1, 9), Tokens = random.Next(1, 12) };
            var text = new Text(random);
            Tensor[] inputs = [text.Draw(settings.Inner), text.Draw(settings.Inner + (2 * groups * (int)settings.StateSize.Size)), text.Draw(settings.Heads)];
            Tensor?[] weights = [Text.Weight(settings.Heads), Text.Weight(settings.Heads), Text.Weight(settings.Heads), settings.Norm is null ? null : Text.Weight(settings.Inner)];
            text.Compare(scan, inputs, weights, () => Defined(settings, inputs, weights, text), $"config {i}: {settings}, chunks of {scan.ChunkTokens}, spans of {scan.Tokens}, {text}");
        }
    }

    [Test]
    public void Mamba_has_the_outputs_gradients_and_states_of_its_definition()
    {
        var random = new Random(12);
        for (var i = 0; i < Configs; i++)
        {
            using var scope = NewDisposeScope();
            var (channels, size) = (random.Next(1, 7), random.Next(1, 6));
            var scan = new SelectiveScan { Tokens = random.Next(1, 15) };
            var text = new Text(random);
            Tensor[] inputs = [text.Draw(channels), text.Draw(channels), text.Draw(channels), text.Draw(size), text.Draw(size)];
            Tensor?[] weights = [Text.Weight(channels, size), Text.Weight(channels)];
            text.Compare(scan, inputs, weights, () => Defined(inputs, weights, text), $"config {i}: {channels} channels, states of {size}, spans of {scan.Tokens}, {text}");
        }
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void The_kernel_has_the_outputs_and_gradients_of_torchs_operators([Values] bool isWide)
    {
        var (random, wide) = (new Random(13), CpuKernel.IsWide);
        try
        {
            for (var i = 0; i < 30; i++)
            {
                using var scope = NewDisposeScope();
                var (batch, tokens, channels, size) = (random.Next(1, 3), random.Next(1, 80), 16 * random.Next(1, 4), random.Next(1, 6));
                var documents = random.Next(2) == 0 ? null : (arange(batch * tokens).view(batch, tokens) / random.Next(2, 40)).floor().to(int64);
                Tensor[] inputs = [.. new[] { channels, channels, channels, size, size }.Select(w => randn([batch, tokens, w]).requires_grad_())];
                Tensor?[] weights = [randn(channels, size).requires_grad_(), randn(channels).requires_grad_()];
                var mix = randn(batch, tokens, channels);
                var results = new List<List<Tensor>>();
                foreach (var isEnabled in new[] { true, false })
                {
                    (CpuKernel.Enabled, CpuKernel.IsWide) = (isEnabled, isWide && wide);
                    var output = new SelectiveScan { Tokens = 50 }.Run(inputs, weights, documents, null);
                    (output * mix).sum().backward();
                    var leaves = inputs.Concat(weights).ToList();
                    results.Add([output, .. leaves.Select(static t => t!.grad!.clone())]);
                    leaves.ForEach(static t => t!.grad = null);
                }

                foreach (var (index, (actual, expected)) in results[0].Zip(results[1]).Index())
                {
                    Assert.That(((actual - expected).abs().max() / (1 + expected.abs().max())).ToDouble(), Is.LessThan(2e-5), $"{index} of {batch} x {tokens} x {channels}, {size}");
                }
            }
        }
        finally
        {
            (CpuKernel.Enabled, CpuKernel.IsWide) = (true, wide);
        }
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void The_kernel_of_Mamba_2_has_the_outputs_and_gradients_of_torchs_operators_in_float64([Values] bool isWide)
    {
        var (random, wide) = (new Random(14), CpuKernel.IsWide);
        _ = manual_seed(14);
        try
        {
            for (var i = 0; i < 40; i++)
            {
                using var scope = NewDisposeScope();
                var (batch, tokens, groups) = (random.Next(1, 3), random.Next(1, 200), random.Next(1, 4));
                var settings = new Mamba2Settings
                {
                    HiddenSize = 1,
                    Heads = groups * random.Next(1, 4),
                    HeadDimension = random.Next(1, 40),
                    Groups = groups,
                    StateSize = new Dimension("state", random.Next(1, 40)),
                    Kernel = new Dimension("kernel", 1),
                    Limits = new TimeStepLimits(0, double.PositiveInfinity),
                    Norm = random.Next(2) == 0 ? null : new GatedNormSettings(1e-5, groups, random.Next(2) == 0),
                };
                var documents = random.Next(2) == 0 ? null : (arange(batch * tokens).view(batch, tokens) / random.Next(2, 100)).floor().to(int64);
                Tensor[] inputs = [.. new[] { settings.Inner, settings.Inner + (2 * groups * settings.StateSize.Size), settings.Heads }.Select(w => randn(batch, tokens, w))];
                Tensor?[] weights = [randn(settings.Heads), randn(settings.Heads), randn(settings.Heads), settings.Norm is null ? null : randn(settings.Inner)];
                var mix = randn(batch, tokens, settings.Inner);
                CpuKernel.IsWide = isWide && wide;
                List<Tensor> Run(ScalarType dtype)
                {
                    using var scan = new Mamba2Scan(settings) { Tokens = 100 };
                    var leaves = inputs.Concat(weights).Select(t => t?.to(dtype).detach().requires_grad_()).ToList();
                    var output = scan.Run([.. leaves[..3].OfType<Tensor>()], leaves[3..], documents, null);
                    (output * mix.to(dtype)).sum().backward();
                    return [output, .. leaves.OfType<Tensor>().Select(static t => t.grad!)];
                }

                foreach (var (index, (actual, expected)) in Run(float32).Zip(Run(float64)).Index())
                {
                    Assert.That(((actual - expected).abs().max() / (1 + expected.abs().max())).ToDouble(), Is.LessThan(2e-4), $"{index} of config {i}: {batch} x {tokens}, {settings}");
                }
            }
        }
        finally
        {
            CpuKernel.IsWide = wide;
        }
    }

    // h = exp(dt A) h + dt x B, y = h C + D x for each head; then the gate and the norm (Dao and Gu, 2024).
    private static Tensor Defined(Mamba2Settings settings, Tensor[] inputs, Tensor?[] weights, Text text)
    {
        var (heads, width, groups, size) = (settings.Heads, settings.HeadDimension, settings.Groups, settings.StateSize.Size);
        var parts = inputs[1].split([settings.Inner, groups * size, groups * size], -1);
        Tensor state = zeros([text.Batch, heads, width, size], float64);
        var outputs = new List<Tensor>();
        for (var t = 0; t < text.Tokens; t++)
        {
            var x = parts[0].select(1, t).reshape(text.Batch, heads, width, 1);
            Tensor OfHeads(Tensor part) => part.select(1, t).reshape(text.Batch, groups, 1, size).expand(-1, -1, heads / groups, -1).reshape(text.Batch, heads, 1, size);
            var step = nn.functional.softplus(inputs[2].select(1, t) + weights[1]!).clamp(settings.Limits.Min, settings.Limits.Max).reshape(text.Batch, heads, 1, 1);
            var decay = step.mul(weights[0]!.exp().neg().view(1, heads, 1, 1)).exp();
            state = (state * decay * text.Continues(t).view(-1, 1, 1, 1)) + (step * x * OfHeads(parts[1]));
            var output = (state * OfHeads(parts[2])).sum(-1) + (x.squeeze(-1) * weights[2]!.view(1, heads, 1));
            outputs.Add(Gated(settings, output.reshape(text.Batch, settings.Inner), inputs[0].select(1, t), weights[3]));
        }

        return stack(outputs, 1);
    }

    private static Tensor Gated(Mamba2Settings settings, Tensor output, Tensor gate, Tensor? weight)
    {
        var open = gate * gate.sigmoid();
        if (settings.Norm is not { } norm)
        {
            return output * open;
        }

        var states = norm.GateFirst ? output * open : output;
        var groups = states.chunk(norm.Groups, -1).Select(g => g / (g.square().mean([-1], keepdim: true) + norm.Epsilon).sqrt());
        states = cat([.. groups], -1) * weight!;
        return norm.GateFirst ? states : states * open;
    }

    // The same for each channel (Gu and Dao, 2023).
    private static Tensor Defined(Tensor[] inputs, Tensor?[] weights, Text text)
    {
        Tensor state = zeros([text.Batch, inputs[1].size(2), inputs[3].size(2)], float64);
        var outputs = new List<Tensor>();
        for (var t = 0; t < text.Tokens; t++)
        {
            var (gate, x) = (inputs[0].select(1, t), inputs[1].select(1, t));
            var step = nn.functional.softplus(inputs[2].select(1, t)).unsqueeze(-1);
            state = (state * (step * -weights[0]!.exp()).exp() * text.Continues(t).view(-1, 1, 1)) + (step * x.unsqueeze(-1) * inputs[3].select(1, t).unsqueeze(1));
            outputs.Add(((state * inputs[4].select(1, t).unsqueeze(1)).sum(-1) + (weights[1]! * x)) * gate * gate.sigmoid());
        }

        return stack(outputs, 1);
    }

    /// <summary>A batch of rows of random lengths, with documents or without.</summary>
    private sealed class Text
    {
        private readonly Random _random;
        private readonly Tensor? _documents;

        internal Text(Random random)
        {
            _random = random;
            (Batch, Tokens) = (random.Next(1, 4), random.Next(1, 25));
            _documents = random.Next(2) == 0 ? null : tensor([.. Enumerable.Range(0, Batch).SelectMany(_ => Row())], [Batch, Tokens]);
        }

        internal int Batch { get; }

        internal int Tokens { get; }

        public override string ToString() => $"{Batch} x {Tokens} tokens, {(_documents is null ? "no documents" : $"documents {string.Join(" ", _documents.data<long>().ToArray())}")}";

        internal Tensor Draw(long width) => randn([Batch, Tokens, width], float64).requires_grad_();

        internal static Tensor Weight(params long[] shape) => randn(shape, float64).requires_grad_();

        /// <summary>1 where a row's token is of the document of the token before, else 0.</summary>
        internal Tensor Continues(int token) =>
            _documents is null || token == 0 ? ones([Batch], float64) : _documents.select(1, token).eq(_documents.select(1, token - 1)).to(float64);

        internal void Compare(SpanScan scan, Tensor[] inputs, Tensor?[] weights, Func<Tensor> defined, string what)
        {
            var leaves = inputs.Concat(weights.OfType<Tensor>()).ToList();
            var mix = randn([Batch, Tokens, inputs[0].size(2)], float64);
            var expected = defined();
            (expected * mix).sum().backward();
            var gradients = leaves.ConvertAll(static t => t.grad!.clone());
            leaves.ForEach(static t => t.grad = null);
            var actual = scan.Run(inputs, weights, _documents, null);
            Assert.That(Difference(actual, expected), Is.LessThan(Tolerance), what);
            (actual * mix).sum().backward();
            for (var i = 0; i < leaves.Count; i++)
            {
                Assert.That(Difference(leaves[i].grad!, gradients[i]), Is.LessThan(Tolerance), $"gradient {i} of {what}");
            }

            ComparePieces(scan, inputs, weights, expected, what);
        }

        // Read in pieces, with the state of the pieces before.
        private void ComparePieces(SpanScan scan, Tensor[] inputs, Tensor?[] weights, Tensor expected, string what)
        {
            using var nothing = no_grad();
            using var state = new ScanState();
            for (int start = 0, count; start < Tokens; start += count)
            {
                count = Math.Min(_random.Next(1, 8), Tokens - start);
                var part = scan.Run([.. inputs.Select(t => t.narrow(1, start, count))], weights, _documents?.narrow(1, start, count), state);
                Assert.That(Difference(part, expected.narrow(1, start, count)), Is.LessThan(Tolerance), $"{count} tokens after {start} of {what}");
            }
        }

        private List<long> Row()
        {
            var row = new List<long>();
            long document = _random.Next(2);
            while (row.Count < Tokens)
            {
                row.AddRange(Enumerable.Repeat(document, Math.Min(_random.Next(1, 9), Tokens - row.Count)));
                document++;
            }

            return row;
        }

        private static double Difference(Tensor actual, Tensor expected) => ((actual - expected).abs().max() / (1 + expected.abs().max())).ToDouble();
    }
}
