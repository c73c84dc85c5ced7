using NUnit.Framework;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Rope;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Kernels;

/// <summary>Functions written in C# against the composition of torch's operators, widths that fill no whole vector included.</summary>
public sealed class KernelTests
{
    [Test]
    public void A_norm_and_its_gradients_are_those_of_single_operators(
        [Values(ScalarType.Float32, ScalarType.BFloat16)] ScalarType dtype, [Values(5, 64, 131)] int features, [Values] bool addsOne, [Values] bool early)
    {
        using var scope = NewDisposeScope();
        _ = random.manual_seed(1);
        var config = new RmsNormSettings(1e-5, addsOne, early);
        Tensor[] inputs = [randn([3, 700, features]).to(dtype), randn([features]).to(dtype)];
        Tensor Work(Tensor[] leaves) => FusedRmsNorm.Serves(leaves[0], leaves[1]) ? FusedRmsNorm.Of(leaves[0], leaves[1], config) : Plain(leaves[0], leaves[1], config);
        Composed.RequireSame(Composed.Both(static leaves => FusedRmsNorm.Serves(leaves[0], leaves[1]), Work, inputs), 1e-5, Work, inputs);
    }

    [Test]
    public void Turned_heads_and_their_gradients_are_those_of_single_operators(
        [Values(ScalarType.Float32, ScalarType.BFloat16)] ScalarType dtype, [Values(8, 20, 64)] int width, [Values(1, 0.5)] double share, [Values] bool ownTables)
    {
        using var scope = NewDisposeScope();
        _ = random.manual_seed(3);
        var half = (int)(width * share / 2);
        var angles = randn([ownTables ? 2 : 1, 1, 300, half]);
        var (cos, sin) = (angles.cos().to(dtype), angles.sin().to(dtype));
        Tensor Heads(Tensor[] leaves) => leaves[0].view(2, 300, 4, width).transpose(1, 2);
        var (kernel, operators) = Composed.Both(
            leaves => RotaryKernel.Serves(Heads(leaves), cos, sin), leaves => RotaryEmbedding.Rotate(Heads(leaves), cos, sin), randn([2, 300, 4 * width]).to(dtype));
        Assert.That(Composed.Difference(kernel, operators), dtype == float32 ? Is.LessThan(1e-6) : Is.Zero);
    }

    [Test]
    public void A_linear_layers_output_for_few_rows_is_that_of_float64(
        [Values(ScalarType.Float32, ScalarType.BFloat16)] ScalarType dtype, [Values(1, 3, 4)] int rows, [Values(5, 48, 131, 512)] int features, [Values] bool biased)
    {
        using var scope = NewDisposeScope();
        _ = random.manual_seed(5);
        var (input, weight, bias) = (randn([rows, 1, features]).to(dtype), randn([700, features]).to(dtype), randn([700]).to(dtype));
        var product = nn.functional.linear(input.to(float64), weight.to(float64));
        var exact = biased ? product.add(bias.to(float64), Scalars.One) : product;
        var found = FewRowsProduct.Linear(input, weight, biased ? bias : null);
        Assert.Multiple(() =>
        {
            Assert.That(FewRowsProduct.Serves(input, weight));
            Assert.That(found.dtype, Is.EqualTo(dtype));


            // Sums are float32. In bfloat16 the product is rounded, and with a bias the sum again; no number is larger than the largest.
            var (ofProduct, ofSum) = (product.abs().max().ToDouble(), exact.abs().max().ToDouble());
            var roundings = dtype == float32 ? 0 : Composed.BFloat16Rounding * (ofProduct + (biased ? ofSum : 0));
            Assert.That(found.to(float64).sub(exact).abs().max().ToDouble(), Is.LessThan((2e-6 * (ofProduct + 1)) + roundings));
        });
    }

    [TestCase(1, 5)]
    [TestCase(7, 33)]
    [TestCase(300, 1000)]
    public void Cross_entropy_and_its_gradient_are_those_of_float64(int rows, int vocabulary)
    {
        using var scope = NewDisposeScope();
        _ = random.manual_seed(4);
        using Scalar wide = 20;
        var scores = randn([rows, vocabulary]).mul(wide);
        var targets = randint(0, vocabulary, [rows]);
        var exact = scores.to(float64);
        var normalizer = exact.logsumexp(1, keepdim: true);
        var loss = normalizer.sub(exact.gather(1, targets.unsqueeze(1))).sum().ToDouble();
        var gradient = exact.sub(normalizer).exp().sub(zeros_like(exact).scatter_(1, targets.unsqueeze(1), ones([rows, 1], float64)));
        Assert.That(SoftmaxKernel.CrossEntropy(scores.clone(), targets, wantsGradient: false), Is.EqualTo(loss).Within(1e-6).Percent);
        Assert.That(SoftmaxKernel.CrossEntropy(scores, targets, wantsGradient: true), Is.EqualTo(loss).Within(1e-6).Percent.Or.EqualTo(loss).Within(1e-5));
        Assert.That(scores.to(float64).sub(gradient).abs().max().ToDouble(), Is.LessThan(1e-6));
    }

    [Test]
    public void Numbers_become_bfloat16_as_torch_rounds_them()
    {
        using var scope = NewDisposeScope();
        _ = random.manual_seed(6);
        var values = cat([randn([4096]), tensor(new[] { float.NaN, float.PositiveInfinity, float.NegativeInfinity, float.MaxValue, float.Epsilon, -0f, 1.00390625f, 1.01171875f })]);

        // Turned by nothing: what is written is what was read and rounded. Both halves of a head are the same numbers.
        var heads = values.view(1, 1, -1, 1).expand(1, 1, values.numel(), 2).contiguous();
        var exact = heads.to(bfloat16);
        var (cos, sin) = (ones([1, 1, values.numel(), 1], bfloat16), zeros([1, 1, values.numel(), 1], bfloat16));
        var turned = RotaryKernel.Turn(exact, cos, sin, back: false, byToken: false);
        var finite = exact.isfinite();
        Assert.That(turned.masked_select(finite).eq(exact.masked_select(finite)).all().ToBoolean());
    }

    private static Tensor Plain(Tensor input, Tensor weight, RmsNormSettings settings)
    {
        using var epsilon = (Scalar)settings.Epsilon;
        using Scalar one = 1;
        var states = input.to(float32);
        var scaled = states.mul(states.mul(states).mean([-1], keepdim: true).add(epsilon, one).rsqrt());
        var scale = settings.AddsOne ? weight.to(float32).add(one, one) : weight.to(float32);
        return settings.ScalesBeforeRounding ? scaled.mul(scale).to(input.dtype) : scaled.to(input.dtype).mul(settings.AddsOne ? scale.to(input.dtype) : weight);
    }
}
