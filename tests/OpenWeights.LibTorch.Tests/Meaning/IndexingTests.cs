using NUnit.Framework;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Meaning;

public sealed class IndexingTests
{
    private DisposeScope _scope = null!;
    private Tensor _table = null!;

    [SetUp]
    public void Open()
    {
        _scope = NewDisposeScope();
        _table = arange(12).to(ScalarType.Float32).view(3, 4);
    }

    [TearDown]
    public void Close()
    {
        _table.Dispose();
        _scope.Dispose();
    }

    [Test]
    public void Rows_are_selected_by_their_numbers()
    {
        Assert.That(_table.index_select(0, Numbers(2, 0, 2)).Values(), Is.EqualTo(new double[] { 8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11 }));
        Assert.That(_table.gather(1, tensor(new long[] { 3, 0, 1 }, [3, 1])).Values(), Is.EqualTo(new double[] { 3, 4, 9 }));
        Assert.That(_table.masked_select(_table.gt(9)).Values(), Is.EqualTo(new double[] { 10, 11 }));
        Assert.That(_table.gt(9).nonzero().Values(), Is.EqualTo(new double[] { 2, 2, 2, 3 }));
        Assert.That(_table.select(0, -1).Values(), Is.EqualTo(new double[] { 8, 9, 10, 11 }));
    }

    [Test]
    public void Values_are_put_between_the_bounds_that_they_lie_between()
    {
        var bounds = tensor(new float[] { 0, 1, 2 });
        var values = tensor(new float[] { -1, 0, 0.5f, 2, 3 });
        Assert.That(values.bucketize(bounds).Values(), Is.EqualTo(new double[] { 0, 0, 1, 2, 3 }));
        Assert.That(values.bucketize(bounds, right: true).Values(), Is.EqualTo(new double[] { 0, 1, 1, 3, 3 }));
        Assert.That(values.bucketize(bounds, outInt32: true).dtype, Is.EqualTo(ScalarType.Int32));
    }

    [Test]
    public void Pairs_of_numbers_are_complex_numbers_and_back()
    {
        var complex = _table.view(6, 2).view_as_complex();
        Assert.That((complex.dtype, complex.numel()), Is.EqualTo((ScalarType.ComplexFloat32, 6L)));
        Assert.That(complex.index_select(0, Numbers(5, 0)).view_as_real().Values(), Is.EqualTo(new double[] { 10, 11, 0, 1 }));
    }

    [Test]
    public void Rows_are_written_by_their_numbers()
    {
        var rows = ones(2, 4);
        Assert.That(zeros(3, 4).index_add_(0, Numbers(1, 1), rows, 2).Values().Sum(), Is.EqualTo(16));
        var at = tensor(new long[] { 0, 0, 3 }, [3, 1]);
        Assert.That(zeros(3, 4).scatter_(1, at, ones(3, 1)).sum().ToSingle(), Is.EqualTo(3));
        Assert.That(zeros(1, 4).scatter_add_(1, tensor(new long[] { 1, 1, 1 }, [1, 3]), ones(1, 3)).Values(), Is.EqualTo(new double[] { 0, 3, 0, 0 }));
    }

    [Test]
    public void Masks_choose_between_values()
    {
        var mask = _table.ge(6);
        Assert.That(_table.masked_fill(mask, -1).Values().Count(static v => v == -1), Is.EqualTo(6));
        Assert.That(where(mask, _table, zeros(1)).Values().Sum(), Is.EqualTo(6 + 7 + 8 + 9 + 10 + 11));
        Assert.That(_table.masked_fill_(mask, double.NegativeInfinity).Values().Last(), Is.EqualTo(double.NegativeInfinity));
    }

    [Test]
    public void Triangles_and_reversals()
    {
        Assert.That(ones(3, 3).tril().Values(), Is.EqualTo(new double[] { 1, 0, 0, 1, 1, 0, 1, 1, 1 }));
        Assert.That(ones(3, 3).triu(1).Values(), Is.EqualTo(new double[] { 0, 1, 1, 0, 0, 1, 0, 0, 0 }));
    }

    [Test]
    public void The_gradient_of_a_selection_adds_up_over_repeated_rows()
    {
        var weight = ones(3, 2, requires_grad: true);
        weight.index_select(0, Numbers(2, 0, 2)).sum().backward();
        Assert.That(weight.grad!.Values(), Is.EqualTo(new double[] { 1, 1, 0, 0, 2, 2 }));
    }

    [Test]
    public void A_number_out_of_range_is_refused()
    {
        Assert.That(() => _table.index_select(0, Numbers(3)), Throws.InstanceOf<Exception>());
        Assert.That(() => _table.gather(1, tensor(new long[] { 4 }, [1, 1])), Throws.InstanceOf<Exception>());
        Assert.That(() => _table.narrow(0, 2, 2), Throws.InstanceOf<Exception>());
    }

    private static Tensor Numbers(params long[] numbers) => tensor(numbers);
}
