using NUnit.Framework;
using TorchSharp;
using TorchSharp.Modules;
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
        Near(F.gelu(x), x * 0.5 * ((x / Math.Sqrt(2)).erf() + 1));
        Near(F.relu(x), x.clamp_min(0));
        Near(F.sigmoid(x), 1 / (1 + (-x).exp()));
        Near(F.logsigmoid(x), x.sigmoid().log());
        Near(F.softplus(x), x.exp().log1p());
        Assert.That(F.softplus(full([1], 100.0)).ToDouble(), Is.EqualTo(100));
        var y = x.clone();
        Near(F.relu(y, inplace: true), F.relu(x));
        Near(y, F.relu(x));
    }

    [Test]
    public void Softmax_sums_to_one_and_holds_for_large_numbers()
    {
        var x = Reading.Mixed(ScalarType.Float64, 4, 7);
        Near(F.softmax(x, 1), x.exp() / x.exp().sum(1, keepdim: true));
        Near(F.log_softmax(x, 0), x - x.logsumexp(0, keepdim: true));
        Near(F.softmax(x + 1e4, -1).sum(-1), ones(4, dtype: ScalarType.Float64));
        Assert.That(F.softmax(ones(4, dtype: ScalarType.BFloat16), 0, dtype: ScalarType.Float32).dtype, Is.EqualTo(ScalarType.Float32));
        Near(x.softmax(1), F.softmax(x, 1));
        Near(x.log_softmax(1), F.log_softmax(x, 1));
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
    public void Layer_norm_has_mean_zero_and_variance_one_before_its_weights()
    {
        var x = Reading.Mixed(ScalarType.Float64, 3, 8);
        var centred = x - x.mean([1], keepdim: true);
        var expected = centred / (centred.square().mean([1], keepdim: true) + 1e-5).sqrt();
        Near(F.layer_norm(x, [8]), expected);
        var (weight, bias) = (Reading.Mixed(ScalarType.Float64, 8), ones(8, dtype: ScalarType.Float64));
        Near(F.layer_norm(x, [8], weight, bias), (expected * weight) + bias);
    }

    [Test]
    public void One_hot_marks_one_class()
    {
        Assert.That(F.one_hot(tensor(new long[] { 2, 0 }), 4).Values(), Is.EqualTo(new double[] { 0, 0, 1, 0, 1, 0, 0, 0 }));
        Assert.That(F.one_hot(tensor(new long[] { 2, 0 })).shape, Is.EqualTo(new long[] { 2, 3 }));
    }

    [Test]
    public void Attention_agrees_with_its_definition()
    {
        var (q, k, v) = (Reading.Mixed(ScalarType.Float64, 2, 3, 5, 4), Reading.Mixed(ScalarType.Float64, 2, 3, 7, 4).flip(2), Reading.Mixed(ScalarType.Float64, 2, 3, 7, 4));
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
    public void Clipping_gives_the_norm_before_and_scales_to_the_norm_wanted()
    {
        var parameters = new[] { new Parameter(ones(4)), new Parameter(ones(5)) };
        (parameters[0] * 2).sum().add(parameters[1].sum()).backward();
        var before = nn.utils.clip_grad_norm_(parameters, 1.0);
        Assert.That(before, Is.EqualTo(Math.Sqrt(21)).Within(1e-6));
        var after = Math.Sqrt(parameters.Sum(static p => p.grad!.Values().Sum(static g => g * g)));
        Assert.That(after, Is.EqualTo(1).Within(1e-5));
        Assert.That(nn.utils.clip_grad_norm_(parameters, 100), Is.EqualTo(1).Within(1e-5));
        Assert.That(Math.Sqrt(parameters.Sum(static p => p.grad!.Values().Sum(static g => g * g))), Is.EqualTo(after).Within(1e-6));
    }

    [Test]
    public void Singular_values_rebuild_the_matrix()
    {
        var a = Reading.Mixed(ScalarType.Float64, 5, 3);
        var (u, s, vh) = linalg.svd(a, fullMatrices: false);
        Near((u * s).mm(vh), a);
        Assert.That(s.Values(), Is.Ordered.Descending);
    }

    private static void Near(Tensor found, Tensor expected)
    {
        Assert.That(found.shape, Is.EqualTo(expected.shape));
        Assert.That(found.Values(), Is.EqualTo(expected.Values()).Within(1e-9));
    }
}
