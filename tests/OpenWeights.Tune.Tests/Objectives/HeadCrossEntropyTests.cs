using NUnit.Framework;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Tests.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives;

/// <summary>The fused head and loss against the plain operators in float64.</summary>
[TestFixture(true)]
[TestFixture(false)]
public sealed class HeadCrossEntropyTests(bool wide)
{
    private VectorWidth? _width;

    [SetUp]
    public void Choose() => _width = new VectorWidth(wide);

    [TearDown]
    public void Restore() => _width!.Dispose();

    // A vocabulary so large that the rows need several chunks.
    [TestCase(40, 8, 11, 1, null)]
    [TestCase(3, 16, 5, 1, null)]
    [TestCase(40, 48, 1000, 1, null)]
    [TestCase(150, 80, 120_000, 0.125, null)]
    [TestCase(70, 16, 600_000, 1, null)]
    [TestCase(40, 8, 11, 0.125, null)]
    [TestCase(40, 8, 11, 1, 0.7)]
    [TestCase(40, 8, 11, 3, 2.0)]
    [TestCase(70, 48, 1000, 3, 2.0)]
    [TestCase(150, 16, 120_000, 1, 0.7)]
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
    public void The_softmax_kernel_and_the_operators_beside_it_give_the_same()
    {
        using var scope = NewDisposeScope();
        manual_seed(5);
        var targets = randint(0, 900, [100]);
        var (kernel, operators) = Composed.Both(
            static leaves => CpuKernel.Serves(leaves[0]), leaves => HeadCrossEntropy.Sum(leaves[0], leaves[1], targets), randn([100, 64]), randn([900, 64]));
        Assert.That(Composed.Difference(kernel, operators), Is.LessThan(2e-6));
    }

    [Test]
    public void The_head_in_bfloat16_gives_what_float64_gives_of_the_same_numbers()
    {
        using var scope = NewDisposeScope();
        manual_seed(5);
        using Scalar eighth = 0.125;
        var (states, weight, targets) = (randn([100, 64]).to(bfloat16).requires_grad_(), randn([900, 64]).mul(eighth).to(bfloat16).requires_grad_(), randint(0, 900, [100]));
        var loss = HeadCrossEntropy.Sum(states, weight, targets);
        loss.backward();

        var (states64, weight64) = (states.detach().to(float64).requires_grad_(), weight.detach().to(float64).requires_grad_());
        var exact = nn.functional.cross_entropy(nn.functional.linear(states64, weight64), targets, reduction: nn.Reduction.Sum);
        exact.backward();

        // Scores, which are below 6, are rounded to bfloat16, and an error of theirs is a relative one of a probability; gradients of scores are rounded, and their sums.
        Assert.That(loss.ToDouble(), Is.EqualTo(exact.ToDouble()).Within(Composed.BFloat16Rounding * exact.ToDouble()));
        Assert.That(Composed.Difference([states.grad!, weight.grad!], [states64.grad!, weight64.grad!]), Is.LessThan((6 + 2) * Composed.BFloat16Rounding));
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

    [TestCase(true)]
    [TestCase(false)]
    public void A_head_that_is_more_than_a_weight_goes_in_chunks_to_the_same_numbers(bool trainsWhatIsBefore)
    {
        using var scope = NewDisposeScope();
        manual_seed(4);
        var (states, targets) = (randn([50, 12]), randint(0, 20, [50]));
        var factors = new[] { randn([3, 12]), randn([20, 3]), randn([20]) }.Select(static f => f.requires_grad_()).ToList();
        Tensor Losses(Tensor hidden, Tensor wanted)
        {
            var low = nn.functional.linear(nn.functional.dropout(hidden, 0.3, training: true), factors[0]);
            return nn.functional.cross_entropy(nn.functional.linear(low, factors[1], factors[2]), wanted, reduction: nn.Reduction.None);
        }

        Tensor Loss(Tensor part, Tensor wanted) => Losses(part, wanted).sum();

        (double Loss, List<Tensor> Gradients) Run(Func<Tensor, Tensor> loss)
        {
            manual_seed(5);
            var leaf = trainsWhatIsBefore ? states.detach().clone().requires_grad_() : states.detach();
            var sum = loss(leaf);
            using Scalar third = 1.0 / 3;
            sum.mul(third).backward();
            List<Tensor> gradients = [.. factors.Select(static f => f.grad!.clone())];
            factors.ForEach(static f => f.grad = null);
            return (sum.ToDouble(), leaf.grad is { } before ? [before, .. gradients] : gradients);
        }

        var plain = Run(leaf => cat([.. Enumerable.Range(0, 4).Select(i => Loss(leaf.narrow(0, i * 16, Math.Min(16, 50 - (i * 16))), targets.narrow(0, i * 16, Math.Min(16, 50 - (i * 16)))).unsqueeze(0))]).sum());
        var chunked = Run(leaf => RecomputedHead.Of(leaf, targets, 16, (states, wanted) => [Losses(states, wanted)])[0].sum());
        Assert.That(chunked.Loss, Is.EqualTo(plain.Loss).Within(1e-4).Percent);
        Assert.That(chunked.Gradients, Has.Count.EqualTo(trainsWhatIsBefore ? 4 : 3));
        foreach (var (a, b) in chunked.Gradients.Zip(plain.Gradients))
        {
            Assert.That(Golden.LargestDifference(a, b), Is.LessThan(1e-5));
        }
    }

    [TestCase(0.1, 0.0)]
    [TestCase(0.0, 0.01)]
    [TestCase(0.2, 0.003)]
    public void Label_smoothing_and_z_loss_are_those_of_plain_operators(double smoothing, double zLoss)
    {
        using var scope = NewDisposeScope();
        manual_seed(2);

        // A vocabulary so large that the rows need several chunks. (With eight columns or fewer MKL sums such a product term by term, to 1e-4.)
        var states = randn([40, 16]).requires_grad_();
        var weight = randn([500_000, 16]).mul(0.3.ToScalar()).detach().requires_grad_();
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
