using NUnit.Framework;
using OpenWeights.Tune.Layers.FeedForward;
using OpenWeights.Tune.Tests.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Layers;

/// <summary>A feed-forward's gate beside autograd in float64.</summary>
internal sealed class GatedActivationTests
{
    [Test]
    public void The_product_and_its_gradients_are_those_of_float64(
        [Values(ScalarType.Float32, ScalarType.BFloat16)] ScalarType dtype, [Values(3, 64, 1000)] int width, [Values] Activation activation, [Values] bool halves)
    {
        using var scope = NewDisposeScope();
        _ = random.manual_seed(2);
        using Scalar wide = 3;
        var both = randn([2, 300, 2 * width]).mul(wide).to(dtype);
        var weight = randn([2, 300, width]).to(dtype);
        Tensor[] inputs = halves ? [both] : [.. both.chunk(2, -1).Select(static half => half.contiguous())];
        var own = Run(leaves => GatedActivation.Of(leaves[0], leaves[1], activation), inputs, weight);
        var exact = Run(leaves => Exact(leaves[0], activation).mul(leaves[1]), [.. inputs.Select(static i => i.to(float64))], weight.to(float64));

        // At most four roundings lie between the inputs and a gradient.
        Assert.That(Composed.Difference(own, exact), Is.LessThan(dtype == float32 ? 2e-6 : 4 * Composed.BFloat16Rounding));
    }

    [Test]
    public void A_gates_gradient_is_the_same_where_it_is_written_over_the_products(
        [Values(ScalarType.Float32, ScalarType.BFloat16)] ScalarType dtype, [Values] Activation activation)
    {
        using var scope = NewDisposeScope();
        _ = random.manual_seed(7);
        var (gate, up, gradient) = (randn([300, 2000]).to(dtype), randn([300, 2000]).to(dtype), randn([300, 2000]).to(dtype));
        var apart = GatedActivation.InputGradients(gate, up, activation, gradient);
        var over = GatedActivation.InputGradients(gate, up, activation, gradient, overwrites: true);
        Assert.That(over.Gate.Equals(apart.Gate) && over.Up.Equals(apart.Up));
        Assert.That(over.Gate.Equals(gradient), "the product's gradient is gone");
    }

    private static Tensor[] Run(Func<Tensor[], Tensor> work, Tensor[] inputs, Tensor weight)
    {
        Tensor[] leaves = [.. inputs.Select(static i => i.detach().requires_grad_())];
        var value = work(leaves.Length == 1 ? leaves[0].chunk(2, -1) : leaves);
        value.mul(weight).sum().backward();
        return [value.detach(), .. leaves.Select(static l => l.grad!)];
    }

    // By the definitions; the error function is inside torch's own gelu.
    private static Tensor Exact(Tensor x, Activation activation)
    {
        using Scalar zero = 0, half = 0.5, one = 1, two = 2, slope = 1.702, root = Math.Sqrt(2 / Math.PI), cubic = 0.044715;
        return activation switch
        {
            Activation.Silu => x.mul(x.sigmoid()),
            Activation.Gelu => nn.functional.gelu(x),
            Activation.GeluSigmoid => x.mul(x.mul(slope).sigmoid()),
            Activation.Relu => x.clamp_min(zero),
            Activation.ReluSquared => x.clamp_min(zero).pow(two),
            Activation.Mish => x.mul(x.exp().add(one).log().tanh()),
            Activation.Sigmoid => x.neg().exp().add(one).reciprocal(),
            Activation.Tanh => x.tanh(),
            _ => x.mul(half).mul(x.add(x.pow(3).mul(cubic)).mul(root).tanh().add(one)),
        };
    }
}
