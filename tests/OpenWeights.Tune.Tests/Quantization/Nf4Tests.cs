using NUnit.Framework;
using OpenWeights.Tune.Quantization;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Quantization;

/// <summary>NF4 and the code of its scales, against a recomputation in float64 that knows bitsandbytes' numbers on its own.</summary>
internal sealed class Nf4Tests
{
    // The numbers of the QLoRA paper's appendix E.
    private static readonly double[] s_levels =
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ];

    [TestCase(64, 96, 64, false)]
    [TestCase(64, 96, 64, true)]
    [TestCase(37, 45, 64, true)]
    [TestCase(128, 1000, 128, true)]
    public void Every_weight_has_the_nearest_level_and_no_larger_error_than_a_recomputation_in_float64(int rows, int columns, int block, bool doubled)
    {
        using var scope = NewDisposeScope();
        _ = manual_seed(5);
        var weight = randn([rows, columns]).mul((Scalar)0.05);
        using var quantized = Nf4Weight.Of(weight, block, doubled);
        var w = Values(weight);
        var actual = Values(quantized.Rows(0, rows, float32));
        var scales = Enumerable.Range(0, (w.Length + block - 1) / block).Select(b => w.Skip(b * block).Take(block).Max(Math.Abs)).ToArray();
        var used = doubled ? DoubleQuantised(scales) : scales;
        var (worst, mean, ideal, idealMean) = (0.0, 0.0, 0.0, 0.0);
        for (var i = 0; i < w.Length; i++)
        {
            var scaled = w[i] / scales[i / block];
            var code = Enumerable.Range(0, 16).MinBy(c => Math.Abs((s_levels[c] * used[i / block]) - actual[i]));
            var nearest = Enumerable.Range(0, 16).MinBy(c => Math.Abs(s_levels[c] - scaled));
            Assert.That(Math.Abs(s_levels[code] - scaled), Is.LessThanOrEqualTo(Math.Abs(s_levels[nearest] - scaled) + 1e-6), $"weight {i}");
            var expected = s_levels[code] * used[i / block];
            Assert.That(actual[i], Is.EqualTo(expected).Within(1e-6 * Math.Max(1e-2, Math.Abs(expected))), $"value {i}");
            worst = Math.Max(worst, Math.Abs(actual[i] - w[i]));
            mean += Math.Abs(actual[i] - w[i]) / w.Length;
            var best = Math.Abs((s_levels[nearest] * used[i / block]) - w[i]);
            ideal = Math.Max(ideal, best);
            idealMean += best / w.Length;
        }

        Assert.That((worst, mean), Is.EqualTo((ideal, idealMean)).Within(1e-6));
        TestContext.Out.WriteLine($"worst error {worst:0.0000e0}, mean {mean:0.0000e0} (float64: {ideal:0.0000e0}, {idealMean:0.0000e0}); {(double)quantized.ByteLength / w.Length:0.0000} byte a weight");
    }

    [Test]
    public void The_code_of_scales_is_bitsandbytes_dynamic_map()
    {
        var levels = DynamicCode.Levels(signed: true);
        Assert.That(levels, Has.Length.EqualTo(256).And.Ordered);
        Assert.That(levels.Distinct().Count(), Is.EqualTo(256));
        Assert.That((levels[0], levels[^2], levels[^1]), Is.EqualTo((-0.99296875f, 0.99296875f, 1f)));
        Assert.That((levels[127], levels[128]), Is.EqualTo((0f, 5.5e-7f)).Within(1e-13f));
        var expected = new List<double> { 0, 1 };
        for (var i = 0; i < 7; i++)
        {
            for (var k = 0; k < 1 << i; k++)
            {
                var value = Math.Pow(10, i - 6) * (0.1 + (0.9 * (k + 0.5) / (1 << i)));
                expected.AddRange([value, -value]);
            }
        }

        Assert.That(levels.Select(static l => (double)l), Is.EqualTo(expected.Order()).Within(1e-6).Percent.Or.EqualTo(expected.Order()).Within(1e-7));
    }

    [Test]
    public void The_scales_of_a_large_layer_cost_little()
    {
        using var scope = NewDisposeScope();
        using var quantized = Nf4Weight.Of(randn([1024, 2048]), 64, doubleQuantization: true);
        Assert.That((double)quantized.ByteLength / quantized.Count, Is.LessThan(0.517).And.GreaterThan(0.5));
    }

    [TestCase(QuantizationKind.Nf4, 33, 70)]
    [TestCase(QuantizationKind.Nf4, 2100, 2080)]
    [TestCase(QuantizationKind.Int8, 33, 70)]
    [TestCase(QuantizationKind.Int8, 2100, 2080)]
    public void Products_and_their_gradients_are_those_of_the_values(QuantizationKind kind, int output, int input)
    {
        using var scope = NewDisposeScope();
        _ = manual_seed(5);
        using var quantized = new QuantizationSettings(kind).Quantize(randn([output, input]));
        var values = quantized.Parts().Select(p => quantized.Rows(p.Start, p.Count, float32)).ToArray();
        var dense = cat(values).requires_grad_(false);
        Assert.That(dense.shape, Is.EqualTo(new long[] { output, input }));
        var states = randn([2, 3, input]).requires_grad_();
        var gradient = randn([2, 3, output]);
        var product = QuantizedProduct.Run(states, quantized);
        Assert.That(Golden.LargestDifference(product, nn.functional.linear(states.to(float64), dense.to(float64))), Is.LessThan(1e-3));
        autograd.backward([product], [gradient]);
        Assert.That(Golden.LargestDifference(states.grad!, gradient.to(float64).reshape(-1, output).mm(dense.to(float64)).view(2, 3, input)), Is.LessThan(1e-3));
    }

    [Test]
    public void Eight_bits_are_off_by_half_a_step_at_most()
    {
        using var scope = NewDisposeScope();
        var weight = randn([50, 300]);
        using var quantized = Int8Weight.Of(weight);
        var step = weight.abs().amax(1).div((Scalar)127.0).unsqueeze(1);
        Assert.That(quantized.Rows(0, 50, float32).sub(weight).abs().div(step).max().ToDouble(), Is.LessThan(0.5001));
        Assert.That((double)quantized.ByteLength / quantized.Count, Is.LessThan(1.02));
    }

    // The scales less their mean, in 8 bits over blocks of 256, and back.
    private static double[] DoubleQuantised(double[] scales)
    {
        var mean = scales.Average();
        var levels = DynamicCode.Levels(signed: true);
        return
        [
            .. scales.Chunk(256).SelectMany(chunk =>
            {
                var largest = chunk.Max(s => Math.Abs(s - mean));
                return chunk.Select(s => (levels.MinBy(l => Math.Abs(l - ((s - mean) / largest))) * largest) + mean);
            }),
        ];
    }

    private static double[] Values(Tensor tensor) => System.Runtime.InteropServices.MemoryMarshal.Cast<byte, double>(tensor.to(float64).contiguous().bytes).ToArray();
}
