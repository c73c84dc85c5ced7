using NUnit.Framework;
using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Kernels;

/// <summary>A matrix' rows times a few rows, and their weighted sum, for each width of vectors against float64.</summary>
[TestFixture(true)]
[TestFixture(false)]
public sealed class RowProductTests(bool wide)
{
    private VectorWidth? _width;

    [SetUp]
    public void Choose() => _width = new VectorWidth(wide);

    [TearDown]
    public void Restore() => _width!.Dispose();

    [Test]
    public void Products_are_those_of_float64(
        [Values(ScalarType.Float32, ScalarType.BFloat16)] ScalarType dtype, [Values(1, 2, 3, 4, 7, 8, 16)] int rows, [Values(1, 5, 16, 24, 131, 512)] int depth)
    {
        using var scope = NewDisposeScope();
        _ = manual_seed(rows + depth);
        var (matrix, states, output) = (randn([37, depth]).to(dtype), randn([rows, depth]), zeros([rows, 40]));
        var results = FloatRows.Of(output);
        RowProduct.Run(RowMatrix.Of(matrix), 3, 36, FloatRows.Of(states), results.From(2));
        var exact = states.to(float64).mm(matrix.to(float64).t().narrow(1, 3, 33));
        Assert.That(Golden.LargestDifference(output.narrow(1, 2, 33), exact), Is.LessThan(1e-6 * Math.Sqrt(depth)));
        Assert.That(output.narrow(1, 0, 2).abs().sum().ToDouble() + output.narrow(1, 35, 5).abs().sum().ToDouble(), Is.Zero, "what lies beside it is left alone");
    }

    private const float Nothing = -7;

    [Test]
    public void A_result_does_not_depend_on_what_is_computed_beside_it([Values(ScalarType.Float32, ScalarType.BFloat16)] ScalarType dtype, [Values(5, 64, 131)] int depth)
    {
        using var scope = NewDisposeScope();
        _ = manual_seed(depth);
        var (matrix, states, together) = (randn([19, depth]).to(dtype), randn([16, depth]), zeros([16, 19]));
        RowProduct.Run(RowMatrix.Of(matrix), 0, 19, FloatRows.Of(states), FloatRows.Of(together));
        for (var count = 1; count < 8; count++)
        {
            var (some, own) = (states.narrow(0, 5, count).contiguous(), zeros([count, 19]));
            RowProduct.Run(RowMatrix.Of(matrix), 0, 6, FloatRows.Of(some), FloatRows.Of(own));
            RowProduct.Run(RowMatrix.Of(matrix), 6, 19, FloatRows.Of(some), FloatRows.Of(own).From(6));
            Assert.That(own.eq(together.narrow(0, 5, count)).all().item<bool>(), $"{count} vectors");
        }
    }

    [Test]
    public void Weighted_sums_are_those_of_float64_however_many_are_computed_together(
        [Values(ScalarType.Float32, ScalarType.BFloat16)] ScalarType dtype, [Values(1, 33)] int rows, [Values(1, 8, 24, 64, 135)] int depth)
    {
        using var scope = NewDisposeScope();
        _ = manual_seed(rows + depth);
        var (matrix, weights, all) = (randn([rows, depth]).to(dtype), rand([9, rows]), zeros([9, depth]));
        RowProduct.WeightedSums(RowMatrix.Of(matrix), rows, FloatRows.Of(weights), (0, depth), FloatRows.Of(all));
        Assert.That(Golden.LargestDifference(all, weights.to(float64).mm(matrix.to(float64))), Is.LessThan(1e-5));
        for (var count = 1; count < 9; count++)
        {
            var (some, output) = (weights.narrow(0, 1, count).contiguous(), full([count, depth], Nothing));
            var (first, last) = (depth / 3, depth - (depth / 5));
            RowProduct.WeightedSums(RowMatrix.Of(matrix), rows, FloatRows.Of(some), (first, last), FloatRows.Of(output));
            Assert.That(output.narrow(1, first, last - first).eq(all.narrow(0, 1, count).narrow(1, first, last - first)).all().item<bool>(), $"{count} sums");
            Assert.That(output.narrow(1, 0, first).eq(Nothing).all().item<bool>() && output.narrow(1, last, depth - last).eq(Nothing).all().item<bool>(), "other columns are left alone");
        }
    }
}
