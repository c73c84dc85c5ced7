using NUnit.Framework;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;
using F = TorchSharp.torch.nn.functional;

namespace OpenWeights.LibTorch.Tests.Meaning;

public sealed class FunctionalTests
{
    private DisposeScope _scope = null!;

    [SetUp]
    public void Open() => _scope = NewDisposeScope();

    [TearDown]
    public void Close() => _scope.Dispose();

    [Test]
    public void A_linear_map_is_a_product_with_the_transposed_weight_and_a_bias()
    {
        var (x, weight, bias) = (Reading.Mixed(ScalarType.Float64, 2, 3, 4), Reading.Mixed(ScalarType.Float64, 5, 4), Reading.Mixed(ScalarType.Float64, 5));
        Near(F.linear(x, weight), x.matmul(weight.t()));
        Near(F.linear(x, weight, bias), x.matmul(weight.t()) + bias);
    }

    [Test]
    public void Activations_agree_with_their_formulas()
    {
        var x = Reading.Mixed(ScalarType.Float64, 40) * 5;
        Near(F.silu(x), x * x.sigmoid());
        Assert.That(F.gelu(x).Values(), Is.EqualTo(x.Values().Select(static v => v * NormalDistribution(v))).Within(1e-9));
    }

    [Test]
    public void Softmax_sums_to_one_and_holds_for_large_numbers()
    {
        var x = Reading.Mixed(ScalarType.Float64, 4, 7);
        Near(x.softmax(1), x.exp() / x.exp().sum(1, keepdim: true));
        Near(x.log_softmax(0), x - x.logsumexp(0, keepdim: true));
        Near((x + 1e4).softmax(-1).sum(-1), ones(4, dtype: ScalarType.Float64));
        Assert.That(ones(4, dtype: ScalarType.BFloat16).softmax(0, dtype: ScalarType.Float32).dtype, Is.EqualTo(ScalarType.Float32));
    }

    [Test]
    public void Dropout_keeps_the_expectation_when_training_and_does_nothing_else()
    {
        var x = ones(10_000);
        _ = manual_seed(3);
        var dropped = F.dropout(x, 0.25, training: true);
        Assert.That(dropped.Values().Distinct(), Is.EquivalentTo(new double[] { 0, (float)(1 / 0.75) }));
        Assert.That(dropped.eq(0).sum().ToInt64(), Is.EqualTo(2500).Within(150));
        Assert.That(F.dropout(x, 0.25, training: false).Values(), Is.All.EqualTo(1));
        Assert.That(F.dropout(x, 0, training: true).Values(), Is.All.EqualTo(1));
        Assert.That(F.dropout(x, 1, training: true).Values(), Is.All.Zero);
        _ = manual_seed(3);
        Assert.That(F.dropout(x, 0.25).Values(), Is.EqualTo(dropped.Values()));
    }

    [Test]
    public void Cross_entropy_is_the_mean_of_what_is_not_ignored()
    {
        var logits = Reading.Mixed(ScalarType.Float64, 4, 6) * 3;
        var targets = tensor(new long[] { 5, -100, 0, 2 });
        var each = -logits.log_softmax(1);
        var picked = new[] { each.Values()[5], 0, each.Values()[12], each.Values()[20] };
        Assert.That(F.cross_entropy(logits, targets, reduction: Reduction.None).Values(), Is.EqualTo(picked).Within(1e-12));
        Assert.That(F.cross_entropy(logits, targets).ToDouble(), Is.EqualTo(picked.Sum() / 3).Within(1e-12));
        Assert.That(F.cross_entropy(logits, targets, reduction: Reduction.Sum).ToDouble(), Is.EqualTo(picked.Sum()).Within(1e-12));
        Assert.That(F.cross_entropy(logits, targets.abs().remainder(6), ignore_index: 0, reduction: Reduction.None).Values()[2], Is.Zero);
        var smooth = F.cross_entropy(logits.narrow(0, 0, 1), targets.narrow(0, 0, 1), label_smoothing: 0.1).ToDouble();
        Assert.That(smooth, Is.EqualTo((0.9 * picked[0]) + (0.1 * each.Values().Take(6).Average())).Within(1e-12));
        var weights = tensor(new double[] { 2, 1, 1, 1, 1, 1 });
        Assert.That(F.cross_entropy(logits, targets, weight: weights, reduction: Reduction.Sum).ToDouble(), Is.EqualTo(picked.Sum() + picked[2]).Within(1e-12));
    }

    [Test]
    public void Attention_agrees_with_its_definition()
    {
        var (q, k, v) = (Reading.Mixed(ScalarType.Float64, 2, 3, 5, 4), Reading.Mixed(ScalarType.Float64, 2, 3, 7, 4).square(), Reading.Mixed(ScalarType.Float64, 2, 3, 7, 4));
        var scores = q.matmul(k.transpose(-2, -1)) / Math.Sqrt(4);
        Near(F.scaled_dot_product_attention(q, k, v), scores.softmax(-1).matmul(v));
        var mask = Reading.Mixed(ScalarType.Float64, 5, 7).gt(-0.5);
        Near(F.scaled_dot_product_attention(q, k, v, mask), scores.masked_fill(mask.logical_not(), double.NegativeInfinity).softmax(-1).matmul(v));
        var added = Reading.Mixed(ScalarType.Float64, 5, 7);
        Near(F.scaled_dot_product_attention(q, k, v, added), (scores + added).softmax(-1).matmul(v));
    }

    [Test]
    public void Causal_attention_looks_at_nothing_later()
    {
        var (q, k, v) = (Reading.Mixed(ScalarType.Float64, 1, 2, 6, 4), Reading.Mixed(ScalarType.Float64, 1, 2, 6, 4), Reading.Mixed(ScalarType.Float64, 1, 2, 6, 4));
        var found = F.scaled_dot_product_attention(q, k, v, null, 0, true);
        var scores = (q.matmul(k.transpose(-2, -1)) / Math.Sqrt(4)).masked_fill(ones(6, 6, dtype: ScalarType.Bool).triu(1), double.NegativeInfinity);
        Near(found, scores.softmax(-1).matmul(v));
        Near(found.select(2, 0), v.select(2, 0));
    }

    [Test]
    public void Singular_values_rebuild_the_matrix()
    {
        var a = Reading.Mixed(ScalarType.Float64, 5, 3);
        var (u, s, vh) = linalg.svd(a, fullMatrices: false);
        Near((u * s).mm(vh), a);
        Assert.That(s.Values(), Is.Ordered.Descending);
    }

    // The share of a normal distribution below a value, by Simpson's rule.
    private static double NormalDistribution(double value)
    {
        const int steps = 2000;
        var step = value / steps;
        var sum = Enumerable.Range(0, steps + 1).Sum(i => (i is 0 or steps ? 1 : i % 2 == 0 ? 2 : 4) * Math.Exp(-i * step * i * step / 2));
        return 0.5 + (sum * step / 3 / Math.Sqrt(2 * Math.PI));
    }

    private static void Near(Tensor found, Tensor expected)
    {
        Assert.That(found.shape, Is.EqualTo(expected.shape));
        Assert.That(found.Values(), Is.EqualTo(expected.Values()).Within(1e-9));
    }
}
