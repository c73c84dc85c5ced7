using NUnit.Framework;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Meaning;

public sealed class ArithmeticTests
{
    private DisposeScope _scope = null!;
    private Tensor _x = null!;

    [SetUp]
    public void Open()
    {
        _scope = NewDisposeScope();
        _x = tensor(new float[] { -2, 1, 4 });
    }

    [TearDown]
    public void Close()
    {
        _x.Dispose();
        _scope.Dispose();
    }

    [Test]
    public void Powers_and_logarithms_of_two()
    {
        using var scope = NewDisposeScope();
        Assert.That(tensor([1f, 8f, 0.25f]).log2().eq(tensor([0f, 3f, -2f])).all().ToBoolean());
        Assert.That(tensor([0f, 3f, -133f]).exp2().eq(tensor([1f, 8f, MathF.ScaleB(1, -133)])).all().ToBoolean());
    }

    [Test]
    public void Operators_take_tensors_and_numbers_on_either_side()
    {
        var y = tensor(new float[] { 2, 2, 8 });
        Gives(_x + y, 0, 3, 12);
        Gives(minimum(_x, y), -2, 1, 4);
        Gives(minimum(y, zeros_like(y)), 0, 0, 0);
        Gives(_x - y, -4, -1, -4);
        Gives(_x * y, -4, 2, 32);
        Gives(_x / y, -1, 0.5, 0.5);
        Gives(_x + 1, -1, 2, 5);
        Gives(1 + _x, -1, 2, 5);
        Gives(1L - _x, 3, 0, -3);
        Gives(_x - 1.5, -3.5, -0.5, 2.5);
        Gives(2f * _x, -4, 2, 8);
        Gives(_x * 0.5f, -1, 0.5, 2);
        Gives(4.0 / _x, -2, 4, 1);
        Gives(4 / _x, -2, 4, 1);
        Gives(_x / 2, -1, 0.5, 2);
        Gives(-_x, 2, -1, -4);
        Scalar two = 2;
        Gives(two + _x, 0, 3, 6);
        Gives(two - _x, 4, 1, -2);
        Gives(two / _x, -1, 2, 0.5);
        Gives(_x * two, -4, 2, 8);
    }

    [Test]
    public void Shapes_are_broadcast()
    {
        var sum = tensor(new float[] { 10, 20 }).view(2, 1) + _x;
        Assert.That(sum.shape, Is.EqualTo(new long[] { 2, 3 }));
        Gives(sum, 8, 11, 14, 18, 21, 24);
        Gives(_x * ones([]), -2, 1, 4);
        Assert.That((zeros([3, 1, 5]) + zeros([2, 1])).shape, Is.EqualTo(new long[] { 3, 2, 5 }));
    }

    [Test]
    public void A_number_does_not_decide_the_type_of_the_result()
    {
        var half = ones(1, dtype: ScalarType.BFloat16);
        var whole = ones(1, dtype: ScalarType.Int64);
        Assert.That((half * 2.5).dtype, Is.EqualTo(ScalarType.BFloat16));
        Assert.That((half * 2).dtype, Is.EqualTo(ScalarType.BFloat16));
        Assert.That((whole * 2.5).dtype, Is.EqualTo(ScalarType.Float32));
        Assert.That((whole * 2).dtype, Is.EqualTo(ScalarType.Int64));
        Assert.That((whole / 2).dtype, Is.EqualTo(ScalarType.Float32));
        Assert.That((half + tensor(1f)).dtype, Is.EqualTo(ScalarType.BFloat16));
        Assert.That((half + ones(1)).dtype, Is.EqualTo(ScalarType.Float32));
        Assert.That((ones(1) + ones(1, dtype: ScalarType.Float64)).dtype, Is.EqualTo(ScalarType.Float64));
        Assert.That((whole + ones(1, dtype: ScalarType.Bool)).dtype, Is.EqualTo(ScalarType.Int64));
    }

    [Test]
    public void In_place_operations_return_the_tensor_itself()
    {
        var y = ones(3);
        var mask = _x.gt(0);
        Func<Tensor, Tensor>[] changes =
        [
            t => t.add_(1), t => t.add_(y), t => t.add_(y, 2), t => t.sub_(1), t => t.sub_(y), t => t.mul_(2), t => t.mul_(y), t => t.div_(2), t => t.div_(y),
            t => t.neg_(), t => t.exp_(), t => t.rsqrt_(), t => t.tanh_(), t => t.floor_(), t => t.masked_fill_(mask, 0),
            t => t.fill_(2), t => t.copy_(y), t => t.addcmul_(y, y, 1), t => t.addcdiv_(y, y, 1),
            t => t.normal_(), t => t.uniform_(0, 1), t => t.requires_grad_(false), t => t.with_requires_grad(false),
        ];
        foreach (var change in changes)
        {
            Assert.That(change(_x), Is.SameAs(_x));
        }
    }

    [Test]
    public void In_place_operations_change_the_values()
    {
        Gives(_x.clone().add_(_x, 3), -8, 4, 16);
        Gives(_x.clone().mul_(2).sub_(1), -5, 1, 7);
        Gives(_x.clone().div_(2, RoundingMode.floor), -1, 0, 2);
        Gives(_x.clone().addcmul_(_x, _x, 0.5), 0, 1.5, 12);
        Gives(_x.clone().zero_(), 0, 0, 0);
        Gives(zeros(3, dtype: ScalarType.BFloat16).copy_(_x), -2, 1, 4);
    }

    [Test]
    public void Division_is_rounded_as_asked_for()
    {
        var seven = tensor(new float[] { -7, 7 });
        Gives(seven.div(2), -3.5, 3.5);
        Gives(seven.div(2, RoundingMode.trunc), -3, 3);
        Gives(seven.div(2, RoundingMode.floor), -4, 3);
        Gives(seven.div(tensor(2f), RoundingMode.floor), -4, 3);
        Gives(seven.remainder(2), 1, 1);
    }

    [Test]
    public void Pointwise_functions_agree_with_the_runtimes()
    {
        var x = Reading.Mixed(ScalarType.Float64, 50);
        var positive = x.abs() + 0.1;
        void Same(Tensor found, Tensor from, Func<double, double> expected) =>
            Assert.That(found.Values(), Is.EqualTo(from.Values().Select(expected).ToArray()).Within(1e-12));
        Same(x.exp(), x, Math.Exp);
        Same(positive.log(), positive, Math.Log);
        Same(positive.sqrt(), positive, Math.Sqrt);
        Same(positive.rsqrt(), positive, static v => 1 / Math.Sqrt(v));
        Same(positive.reciprocal(), positive, static v => 1 / v);
        Same(x.sin(), x, Math.Sin);
        Same(x.cos(), x, Math.Cos);
        Same(x.tanh(), x, Math.Tanh);
        Same(x.sigmoid(), x, static v => 1 / (1 + Math.Exp(-v)));
        Same(x.silu(), x, static v => v / (1 + Math.Exp(-v)));
        Same(x.square(), x, static v => v * v);
        Same(x.sign(), x, static v => Math.Sign(v));
        Same(x.round(2), x, static v => Math.Round(v, 2));
        Same((x * 10).round(), x, static v => Math.Round(v * 10));
        Same(positive.pow(1.5), positive, static v => Math.Pow(v, 1.5));
        Same(x.pow(2), x, static v => v * v);
        Same(positive.pow(x), x, static v => Math.Pow(Math.Abs(v) + 0.1, v));
        Same(x.clamp_min(0.2), x, static v => Math.Max(v, 0.2));
    }

    [Test]
    public void What_is_not_finite_is_seen()
    {
        var strange = tensor(new[] { float.NaN, float.PositiveInfinity, 1 });
        Gives(strange.isnan(), 1, 0, 0);
        Gives(strange.isinf(), 0, 1, 0);
        Gives(strange.isfinite(), 0, 0, 1);
    }

    [Test]
    public void Comparisons_give_truths()
    {
        var y = tensor(new float[] { -2, 2, 3 });
        Gives(_x.eq(y), 1, 0, 0);
        Gives(_x.lt(y), 0, 1, 0);
        Gives(_x.gt(0), 0, 1, 1);
        Gives(_x.ge(1), 0, 1, 1);
        Gives(_x.le(y), 1, 1, 0);
        Gives(_x.gt(0).logical_and(y.gt(2)), 0, 0, 1);
        Gives(_x.gt(0).logical_not(), 1, 0, 0);
        Assert.That(_x.Equals(_x.clone()), Is.True);
        Assert.That(_x.Equals(y), Is.False);
    }

    [Test]
    public void Products_of_matrices_agree_with_loops()
    {
        var a = Reading.Mixed(ScalarType.Float64, 3, 4, 5);
        var b = Reading.Mixed(ScalarType.Float64, 3, 5, 2);
        var (first, second) = (a.select(0, 0), b.select(0, 0));
        var expected = Product(first, second);
        Near(first.mm(second), expected);
        Near(first.matmul(second), expected);
        Near(a.bmm(b).select(0, 2), Product(a.select(0, 2), b.select(0, 2)));
        Near(a.matmul(b).select(0, 1), Product(a.select(0, 1), b.select(0, 1)));
    }

    [Test]
    public void Mixtures_agree_with_their_formulas()
    {
        var y = tensor(new float[] { 4, 4, 4 });
        Gives(_x.add(y, 3), 10, 13, 16);
    }

    private static double[] Product(Tensor a, Tensor b)
    {
        var (rows, inner, columns) = ((int)a.size(0), (int)a.size(1), (int)b.size(1));
        var (left, right, found) = (a.Values(), b.Values(), new double[rows * columns]);
        for (var i = 0; i < rows; i++)
        {
            for (var j = 0; j < columns; j++)
            {
                for (var k = 0; k < inner; k++)
                {
                    found[(i * columns) + j] += left[(i * inner) + k] * right[(k * columns) + j];
                }
            }
        }

        return found;
    }

    private static void Near(Tensor found, double[] expected) => Assert.That(found.Values(), Is.EqualTo(expected).Within(1e-12));

    private static void Gives(Tensor found, params double[] expected) => Assert.That(found.Values(), Is.EqualTo(expected));
}
