using NUnit.Framework;
using OpenWeights.Tune.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives;

/// <summary>The fused head and loss against the plain operators in float64.</summary>
public sealed class HeadCrossEntropyTests
{
    // A vocabulary so large that the rows need several chunks.
    [TestCase(40, 8, 11, 1, null)]
    [TestCase(70, 4, 600_000, 1, null)]
    [TestCase(40, 8, 11, 0.125, null)]
    [TestCase(40, 8, 11, 1, 0.7)]
    [TestCase(40, 8, 11, 3, 2.0)]
    public void Loss_and_gradients_are_those_of_plain_operators(int rows, int hidden, int vocabulary, double multiplier, double? softCap)
    {
        using var scope = NewDisposeScope();
        manual_seed(1);
        var states = randn([rows, hidden]).requires_grad_();
        var weight = randn([vocabulary, hidden]).mul(0.3.ToScalar()).detach().requires_grad_();
        var targets = randint(0, vocabulary, [rows]);
        var loss = HeadCrossEntropy.Sum(states, weight, targets, multiplier, softCap);
        using Scalar third = 1.0 / 3;
        loss.mul(third).backward();

        var (states64, weight64) = (states.detach().to(float64).requires_grad_(), weight.detach().to(float64).requires_grad_());
        var logits = nn.functional.linear(states64, weight64).mul(multiplier.ToScalar());
        if (softCap is { } cap)
        {
            logits = logits.div(cap.ToScalar()).tanh().mul(cap.ToScalar());
        }

        var plain = nn.functional.cross_entropy(logits, targets, reduction: nn.Reduction.Sum);
        plain.mul(third).backward();
        Assert.That(loss.ToDouble(), Is.EqualTo(plain.ToDouble()).Within(1e-6 * plain.ToDouble()));
        Assert.That(Golden.LargestDifference(states.grad!, states64.grad!), Is.LessThan(1e-6));
        Assert.That(Golden.LargestDifference(weight.grad!, weight64.grad!), Is.LessThan(3e-6));
    }

    [Test]
    public void A_frozen_head_gets_no_gradient()
    {
        using var scope = NewDisposeScope();
        var states = randn([6, 4]).requires_grad_();
        var weight = randn([9, 4]);
        HeadCrossEntropy.Sum(states, weight, arange(6, dtype: int64)).backward();
        Assert.That(weight.grad, Is.Null);
        Assert.That(states.grad, Is.Not.Null);
    }

    [TestCase(0.1, 0.0)]
    [TestCase(0.0, 0.01)]
    [TestCase(0.2, 0.003)]
    public void Label_smoothing_and_z_loss_are_those_of_plain_operators(double smoothing, double zLoss)
    {
        using var scope = NewDisposeScope();
        manual_seed(2);

        // A vocabulary so large that the rows need several chunks.
        var states = randn([40, 4]).requires_grad_();
        var weight = randn([500_000, 4]).detach().requires_grad_();
        var targets = randint(0, 500_000, [40]);
        var loss = RegularizedHeadLoss.Sum(states, weight, targets, smoothing, zLoss);
        using Scalar third = 1.0 / 3;
        loss.mul(third).backward();

        var (states64, weight64) = (states.detach().to(float64).requires_grad_(), weight.detach().to(float64).requires_grad_());
        var logits = nn.functional.linear(states64, weight64);
        using Scalar z = zLoss;
        using Scalar one = 1.0;
        var plain = nn.functional.cross_entropy(logits, targets, reduction: nn.Reduction.Sum, label_smoothing: smoothing).add(logits.logsumexp(1).square().sum().mul(z), one);
        plain.mul(third).backward();
        Assert.That(loss.ToDouble(), Is.EqualTo(plain.ToDouble()).Within(2e-6 * plain.ToDouble()));
        Assert.That(Golden.LargestDifference(states.grad!, states64.grad!), Is.LessThan(3e-6));
        Assert.That(Golden.LargestDifference(weight.grad!, weight64.grad!), Is.LessThan(5e-6));
    }
}
