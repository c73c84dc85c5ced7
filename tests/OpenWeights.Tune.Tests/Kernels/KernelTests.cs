using NUnit.Framework;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
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

    [TestCase(64)]
    [TestCase(131)]
    [TestCase(4096)]
    public void A_norm_of_float32_rounds_once(int features)
    {
        using var scope = NewDisposeScope();
        _ = random.manual_seed(6);
        var (input, weight) = (randn([50, features]), randn([features]));
        using Scalar epsilon = 1e-5;
        var exact = input.to(float64).mul(input.to(float64).square().mean([-1], keepdim: true).add(epsilon, Scalars.One).rsqrt()).mul(weight.to(float64));
        var found = FusedRmsNorm.Of(input, weight, new RmsNormSettings(1e-5));
        Assert.That(found.to(float64).sub(exact).div(exact.abs()).abs().max().ToDouble(), Is.LessThan(Math.Pow(2, -24) * 1.001));
    }

    [Test]
    public void The_loss_over_a_large_vocabulary_loses_no_digits()
    {
        using var scope = NewDisposeScope();
        _ = random.manual_seed(7);
        var (scores, targets) = (randn([3, 262_145]), zeros([3], int64));
        var exact = scores.to(float64).logsumexp(1).sub(scores.to(float64).narrow(1, 0, 1).squeeze(1)).sum().ToDouble();
        Assert.That(SoftmaxKernel.CrossEntropy(scores, targets, wantsGradient: false), Is.EqualTo(exact).Within(1e-7));
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
    public unsafe void Numbers_become_bfloat16_as_torch_rounds_them()
    {
        using var scope = NewDisposeScope();
        _ = random.manual_seed(6);
        var values = cat([randn([4096]), tensor(new[] { float.NaN, float.PositiveInfinity, float.NegativeInfinity, float.MaxValue, float.Epsilon, -0f, 1.00390625f, 1.01171875f })]);
        var (exact, rounded) = (values.to(bfloat16), empty(values.shape, bfloat16));
        for (nint i = 0; i < values.numel(); i += Lanes.Width)
        {
            BFloat16Elements.Store(CpuKernel.Pointer(rounded), i, Float32Elements.Load(CpuKernel.Pointer(values), i));
        }

        var number = values.isnan().logical_not();
        Assert.That(rounded.masked_select(number).eq(exact.masked_select(number)).all().ToBoolean());
        Assert.That(rounded.isnan().eq(values.isnan()).all().ToBoolean());
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
