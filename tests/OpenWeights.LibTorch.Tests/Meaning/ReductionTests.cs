using NUnit.Framework;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Meaning;

public sealed class ReductionTests
{
    private static readonly double[] s_values = [3, -1, 2, 0, 5, 4];

    private DisposeScope _scope = null!;
    private Tensor _table = null!;

    [SetUp]
    public void Open()
    {
        _scope = NewDisposeScope();
        _table = tensor(s_values, [2, 3]).to(ScalarType.Float32);
    }

    [TearDown]
    public void Close()
    {
        _table.Dispose();
        _scope.Dispose();
    }

    [Test]
    public void Sums_and_means_run_over_all_or_over_dimensions()
    {
        Assert.That(_table.sum().ToSingle(), Is.EqualTo(13));
        Assert.That(_table.sum(1).Values(), Is.EqualTo(new double[] { 4, 9 }));
        Assert.That(_table.sum(1, keepdim: true).shape, Is.EqualTo(new long[] { 2, 1 }));
        Assert.That(_table.sum([0, 1]).ToSingle(), Is.EqualTo(13));
        Assert.That(_table.mean().ToSingle(), Is.EqualTo(13 / 6f));
        Assert.That(_table.mean([0]).Values(), Is.EqualTo(new double[] { 1.5, 2, 3 }));
        Assert.That(_table.mean([-1], keepdim: true).shape, Is.EqualTo(new long[] { 2, 1 }));
    }

    [Test]
    public void A_sum_has_the_type_asked_for()
    {
        Assert.That(ones(3, dtype: ScalarType.Int32).sum().dtype, Is.EqualTo(ScalarType.Int64));
        Assert.That(ones(3, dtype: ScalarType.Bool).sum().ToInt64(), Is.EqualTo(3));
        Assert.That(ones(3, dtype: ScalarType.BFloat16).sum().dtype, Is.EqualTo(ScalarType.BFloat16));
        Assert.That(ones(300, dtype: ScalarType.BFloat16).sum(ScalarType.Float32).ToSingle(), Is.EqualTo(300));
        Assert.That(ones(300, dtype: ScalarType.BFloat16).mean([0], type: ScalarType.Float64).dtype, Is.EqualTo(ScalarType.Float64));
    }

    [Test]
    public void Extremes_come_with_their_places()
    {
        Assert.That(_table.max().ToSingle(), Is.EqualTo(5));
        Assert.That(_table.min().ToSingle(), Is.EqualTo(-1));
        var (values, indexes) = _table.max(1);
        Assert.That(values.Values(), Is.EqualTo(new double[] { 3, 5 }));
        Assert.That(indexes.Values(), Is.EqualTo(new double[] { 0, 1 }));
        Assert.That(_table.min(1, keepdim: true).values.Values(), Is.EqualTo(new double[] { -1, 0 }));
        Assert.That(_table.argmax().ToInt64(), Is.EqualTo(4));
        Assert.That(_table.argmax(-1).Values(), Is.EqualTo(new double[] { 0, 1 }));
        Assert.That(_table.amax(0).Values(), Is.EqualTo(new double[] { 3, 5, 4 }));
    }

    [Test]
    public void The_largest_few_come_largest_first()
    {
        var (values, indexes) = _table.topk(2);
        Assert.That(values.Values(), Is.EqualTo(new double[] { 3, 2, 5, 4 }));
        Assert.That(indexes.Values(), Is.EqualTo(new double[] { 0, 2, 1, 2 }));
        Assert.That(_table.topk(1, 0, largest: false).values.Values(), Is.EqualTo(new double[] { 0, -1, 2 }));
    }

    [Test]
    public void Norms_and_logarithms_of_sums()
    {
        Assert.That(_table.norm().ToDouble(), Is.EqualTo(Math.Sqrt(55)).Within(1e-6));
        Assert.That(_table.norm(p: 1).ToDouble(), Is.EqualTo(15));
        Assert.That(_table.norm(1).Values()[0], Is.EqualTo(Math.Sqrt(14)).Within(1e-6));
        Assert.That(_table.logsumexp(1).Values()[1], Is.EqualTo(Math.Log(1 + Math.Exp(5) + Math.Exp(4))).Within(1e-6));
        Assert.That(full([2], 1000.0).logsumexp(0).ToDouble(), Is.EqualTo(1000 + Math.Log(2)).Within(1e-3));
    }

    [Test]
    public void Truths_are_gathered()
    {
        Assert.That(_table.gt(0).all().ToBoolean(), Is.False);
        Assert.That(_table.gt(0).any().ToBoolean(), Is.True);
        Assert.That(_table.ge(0).all(1).Values(), Is.EqualTo(new double[] { 0, 1 }));
        Assert.That(_table.gt(4).any(1).Values(), Is.EqualTo(new double[] { 0, 1 }));
        Assert.That(_table.cumsum(1).Values(), Is.EqualTo(new double[] { 3, 2, 4, 0, 5, 9 }));
    }
}
