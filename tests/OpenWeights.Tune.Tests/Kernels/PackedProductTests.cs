using NUnit.Framework;
using OpenWeights.Formats.Quantized;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Quantization;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Kernels;

/// <summary>Packed rows times a few vectors against float64 products of the unpacked weight, for each set of instructions.</summary>
[TestFixture(true, true)]
[TestFixture(false, true)]
[TestFixture(false, false)]
internal sealed class PackedProductTests(bool wide, bool looksUp)
{
    private VectorWidth? _width;

    [SetUp]
    public void Choose() => _width = new VectorWidth(wide, looksUp);

    [TearDown]
    public void Restore() => _width!.Dispose();

    private static IEnumerable<TestCaseData> Weights()
    {
        foreach (var (outputs, inputs) in new[] { (37, 64), (6, 192), (19, 576), (5, 1536), (3, 100) })
        {
            yield return new TestCaseData((Tensor values) => (QuantizedWeight)Nf4Weight.Of(values, 64, doubleQuantization: false), outputs, inputs).SetArgDisplayNames("nf4", $"{outputs}x{inputs}");
            yield return new TestCaseData((Tensor values) => (QuantizedWeight)Nf4Weight.Of(values, 64, doubleQuantization: true), outputs, inputs).SetArgDisplayNames("nf4 double", $"{outputs}x{inputs}");
            yield return new TestCaseData((Tensor values) => (QuantizedWeight)Nf4Weight.Of(values, 32, doubleQuantization: true), outputs, inputs).SetArgDisplayNames("nf4 double, blocks of 32", $"{outputs}x{inputs}");
            yield return new TestCaseData((Tensor values) => (QuantizedWeight)Int8Weight.Of(values), outputs, inputs).SetArgDisplayNames("int8", $"{outputs}x{inputs}");
            foreach (var bits in new[] { 2, 3, 4, 8 })
            {
                yield return new TestCaseData((Tensor values) => Grouped(values, bits), outputs, inputs).SetArgDisplayNames($"{bits} bits with zeros", $"{outputs}x{inputs}");
            }
        }
    }

    [TestCaseSource(nameof(Weights))]
    public void Products_are_those_of_the_unpacked_weight(Func<Tensor, QuantizedWeight> quantize, int outputs, int inputs)
    {
        using var scope = NewDisposeScope();
        _ = manual_seed(outputs + inputs);
        using var weight = quantize(randn([outputs, inputs]));
        var unpacked = weight.Rows(0, outputs, float32).to(float64);
        foreach (var count in new[] { 1, 2, 3, 4, 5, 8, 16 })
        {
            var states = randn([count, inputs]);
            var products = QuantizedProduct.Forward(states, weight);
            var exact = states.to(float64).mm(unpacked.t());
            Assert.That(Golden.LargestDifference(products, exact), Is.LessThan(2e-6 * Math.Sqrt(inputs)), $"{count} vectors");
        }
    }

    [TestCaseSource(nameof(Weights))]
    public void A_result_does_not_depend_on_what_is_computed_beside_it(Func<Tensor, QuantizedWeight> quantize, int outputs, int inputs)
    {
        using var scope = NewDisposeScope();
        _ = manual_seed(outputs);
        using var weight = quantize(randn([outputs, inputs]));
        if (weight.InMemory is not { } rows)
        {
            Assert.That(inputs, Is.EqualTo(100), "only blocks that run on from row to row have no rows of their own");
            return;
        }

        var (states, together) = (randn([16, inputs]), zeros([16, outputs]));
        rows.Multiply(0, outputs, FloatRows.Of(states), FloatRows.Of(together));
        foreach (var count in new[] { 1, 2, 5 })
        {
            var (some, own) = (states.narrow(0, 3, count).contiguous(), zeros([count, outputs]));
            rows.Multiply(0, 2, FloatRows.Of(some), FloatRows.Of(own));
            rows.Multiply(2, outputs, FloatRows.Of(some), FloatRows.Of(own).From(2));
            Assert.That(own.eq(together.narrow(0, 3, count)).all().item<bool>(), $"{count} vectors");
        }
    }

    // As GPTQ has it: groups of 32 with a zero and a scale each.
    private static PackedWeight Grouped(Tensor values, int bits)
    {
        var (outputs, inputs) = (values.size(0), values.size(1));
        var (groups, rowBytes) = ((inputs + 31) / 32, ((inputs * bits) + 7) / 8);
        var random = new Random((int)inputs);
        var codes = new byte[(outputs * rowBytes) + 1];
        random.NextBytes(codes);
        var zeros = new byte[outputs * groups];
        var scales = new float[outputs * groups];
        for (var i = 0; i < zeros.Length; i++)
        {
            zeros[i] = (byte)random.Next(1 << bits);
            scales[i] = random.NextSingle() / (1 << bits);
        }

        return new PackedWeight(
            new PackedMatrix
            {
                OutFeatures = outputs,
                InFeatures = inputs,
                Rows = outputs,
                Columns = inputs,
                Bits = bits,
                RowBytes = rowBytes,
                Codes = codes,
                Levels = [.. Enumerable.Range(0, 1 << bits).Select(static i => (float)i)],
                Scales = new PackedScales { Type = OpenWeights.Formats.Safetensors.DType.F32, Bytes = System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(scales).ToArray(), Rows = outputs, Columns = groups, BlockRows = 1, BlockColumns = 32 },
                Zeros = zeros,
            },
            CPU);
    }
}
