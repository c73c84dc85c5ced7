using NUnit.Framework;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace OpenWeights.LibTorch.Tests.Meaning;

/// <summary>The same thing said in another way.</summary>
public sealed class OverloadTests
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
    public void Each_kind_of_number_takes_part_in_arithmetic_on_either_side()
    {
        Scalar number = 2;
        Tensor[] sums = [_x + 2, _x + 2L, _x + 2f, _x + 2.0, _x + number, 2 + _x, 2L + _x, 2f + _x, 2.0 + _x, number + _x];
        Tensor[] differences = [_x - 2, _x - 2L, _x - 2f, _x - 2.0, _x - number];
        Tensor[] opposites = [2 - _x, 2L - _x, 2f - _x, 2.0 - _x, number - _x];
        Tensor[] products = [_x * 2, _x * 2L, _x * 2f, _x * 2.0, _x * number, 2 * _x, 2L * _x, 2f * _x, 2.0 * _x, number * _x];
        Tensor[] quotients = [_x / 2, _x / 2L, _x / 2f, _x / 2.0, _x / number];
        Tensor[] inverses = [2 / _x, 2L / _x, 2f / _x, 2.0 / _x, number / _x];
        Tensor[] remainders = [_x.remainder(3), _x.remainder(full([3], 3.0))];
        All(sums, 0, 3, 6);
        All(differences, -4, -1, 2);
        All(opposites, 4, 1, -2);
        All(products, -4, 2, 8);
        All(quotients, -1, 0.5, 2);
        All(inverses, -1, 2, 0.5);
        All(remainders, 1, 1, 1);
    }

    [Test]
    public void Comparisons_take_numbers_and_tensors()
    {
        var ones = full([3], 1.0);
        All([_x.gt(1), _x.gt(ones)], 0, 0, 1);
        All([_x.ge(1), _x.ge(ones)], 0, 1, 1);
        All([_x.lt(1), _x.lt(ones)], 1, 0, 0);
        All([_x.le(1), _x.le(ones)], 1, 1, 0);
        All([_x.eq(1), _x.eq(ones)], 0, 1, 0);
    }

    [Test]
    public void Numbers_become_scalars_and_scalars_numbers()
    {
        Scalar[] ones = [(byte)1, (sbyte)1, (short)1, 1, 1L, (Half)1, 1f, 1.0, 1.ToScalar(), 1L.ToScalar(), 1f.ToScalar(), 1.0.ToScalar()];
        Assert.That(ones.Select(static s => (s.ToInt64(), s.ToSingle(), s.ToDouble(), s.ToBoolean())), Is.All.EqualTo((1L, 1f, 1.0, true)));
        Scalar truth = true;
        Assert.That((truth.ToBoolean(), false.ToScalar().ToBoolean()), Is.EqualTo((true, false)));
        Scalar whole = 3;
        Scalar broken = 2.5;
        Assert.That((whole.Type, broken.Type), Is.EqualTo((ScalarType.Int64, ScalarType.Float64)));
        Assert.That(zeros(1, dtype: ScalarType.Int64).add(whole).dtype, Is.EqualTo(ScalarType.Int64));
        var sum = _x * broken;
        broken.Dispose();
        Assert.That(sum.Values(), Is.EqualTo(new[] { -5, 2.5, 10 }));
    }

    [Test]
    public void A_method_says_what_its_operator_says()
    {
        var y = tensor(new float[] { 2, 2, 8 });
        All([_x + y, _x.add(y)], 0, 3, 12);
        All([_x + 2, _x.add(2)], 0, 3, 6);
        All([_x - y, _x.sub(y)], -4, -1, -4);
        All([_x - 2, _x.sub(2)], -4, -1, 2);
        All([_x * y, _x.mul(y)], -4, 2, 32);
        All([_x * 2, _x.mul(2)], -4, 2, 8);
        All([_x / y, _x.div(y)], -1, 0.5, 0.5);
        All([-_x, _x.neg()], 2, -1, -4);
        All([_x.remainder(full([3], 3.0)), _x.remainder(3)], 1, 1, 1);
        All([_x.add(2, 3), _x.clone().add_(2, 3)], 4, 7, 10);
        All([_x.clone().silu_(), _x.silu(), F.silu(_x)], F.silu(_x).Values());
        All([_x.gelu(), F.gelu(_x)], F.gelu(_x).Values());
        All([zeros(2, 3).addmm_(ones(2, 1), _x.view(1, 3)), ones(2, 1).mm(_x.view(1, 3))], -2, 1, 4, -2, 1, 4);
    }

    [Test]
    public void A_shape_is_given_in_any_way()
    {
        long[] shape = [2, 3];
        Tensor[] made =
        [
            zeros(shape), zeros([2, 3]), zeros(2, 3), zeros(2L, 3L), ones(shape), ones([2, 3]), ones(2, 3), ones(2L, 3L), empty(shape), empty([2, 3]), empty(2, 3), empty(2L, 3L),
            full(shape, 1), full([2, 3], 1), rand(shape), rand([2, 3]), randn(shape), randn([2, 3]), randint(0L, 3L, shape),
            zeros(6).view(shape), zeros(6).reshape(shape), tensor(new float[6], shape), tensor(new double[6], [2, 3]), tensor(new int[6], shape), tensor(new long[6], shape),
            tensor(new bool[6], shape), tensor(new byte[6], shape), _x.expand(shape),
        ];
        Assert.That(made.Select(static t => t.shape), Is.All.EqualTo(shape));
        Tensor[] lines = [zeros(6), zeros(6L), ones(6), ones(6L), empty(6), empty(6L)];
        Assert.That(lines.Select(static t => t.shape), Is.All.EqualTo(new long[] { 6 }));
        var table = arange(6).view(2, 3);
        long[] both = [0, 1];
        All([table.sum(both), table.sum([0, 1]), table.sum()], 15);
        long[] parts = [1, 2];
        Assert.That(table.split(parts, 1).Concat(table.split([1, 2], 1)).Select(static t => t.size(1)), Is.EqualTo(new long[] { 1, 2, 1, 2 }));
    }

    [Test]
    public void Types_have_short_names()
    {
        Assert.That(
            new[] { uint8, int16, int32, int64, float16, float32, float64, bfloat16, torch.@bool },
            Is.EqualTo(new[]
            {
                ScalarType.Byte, ScalarType.Int16, ScalarType.Int32, ScalarType.Int64, ScalarType.Float16, ScalarType.Float32, ScalarType.Float64,
                ScalarType.BFloat16, ScalarType.Bool,
            }));
        Assert.That((ones(1).is_floating_point(), ones(1).bfloat16().is_floating_point(), ones(1, dtype: int32).is_floating_point()), Is.EqualTo((true, true, false)));
        Tensor[] same = [_x.to(CPU), _x.to(float32), _x.to(float32, CPU), _x.cpu()];
        All(same, -2, 1, 4);
        Assert.That((_x.empty_like().shape, _x.empty_like(int64).dtype), Is.EqualTo((_x.shape, int64)));
        Assert.That(_x.ones_like(float64).Values(), Is.EqualTo(new double[] { 1, 1, 1 }));
        Assert.That(new Device("cpu").type, Is.EqualTo(new Device(DeviceType.CPU).type));
    }

    [Test]
    public void A_machine_without_cuda_says_so()
    {
        Assert.That(cuda.is_available(), Is.EqualTo(cuda.device_count() > 0));
    }

    [Test]
    public void The_seed_is_set_in_several_places()
    {
        _ = torch.random.manual_seed(12);
        var state = torch.random.get_rng_state();
        var drawn = rand([3]).Values();
        torch.random.set_rng_state(state);
        Assert.That(rand([3]).Values(), Is.EqualTo(drawn));
        Generator.Default.set_state(state);
        Assert.That(rand([3]).Values(), Is.EqualTo(drawn));
    }

    [Test]
    public void Scopes_take_one_or_many()
    {
        using var outer = NewDisposeScope();
        using var inner = NewDisposeScope();
        var made = Enumerable.Range(0, 12).Select(static _ => ones(1)).ToArray();
        inner.MoveToOuter((IEnumerable<IDisposable>)made[..1]);
        inner.MoveToOuter(made[1], made[2], made[3], made[4]);
        _ = inner.MoveToOuter(made[5], made[6], made[7]);
        inner.MoveToOther(outer, (IEnumerable<IDisposable>)[made[8]]);
        Assert.That(made.Take(9).All(outer.Contains), Is.True);
        _ = inner.Detach(made[9]);
        inner.Detach(made[10], made[11], made[9], made[8]);
        Assert.That(inner.DisposablesCount, Is.Zero);
        Assert.That(outer.Contains(made[8]), Is.True);
        for (var i = 9; i < 12; i++)
        {
            outer.Attach(made[i]);
        }

        outer.MoveToOther(inner, made[9], made[10], made[11], made[8]);
        Assert.That(inner.DisposablesCount, Is.EqualTo(4));
        inner.DisposeEverythingBut(made[8], made[9], made[10], made[10]);
        Assert.That((inner.DisposablesCount, made[11].IsInvalid), Is.EqualTo((3, true)));
        made[8].Dispose();
        Assert.That((inner.DisposablesCount, made[8].IsInvalid), Is.EqualTo((2, true)));
    }

    [Test]
    public void A_list_of_modules_is_changed_before_it_is_registered()
    {
        using var list = new ModuleList<ModuleList<nn.Module>>();
        var parts = Enumerable.Range(0, 3).Select(static _ => new ModuleList<nn.Module>()).ToArray();
        list.Add(parts[0]);
        list.Insert(0, parts[1]);
        list[1] = parts[2];
        var copy = new ModuleList<nn.Module>[2];
        list.CopyTo(copy, 0);
        Assert.That(copy, Is.EqualTo(new[] { parts[1], parts[2] }));
        Assert.That((list.Remove(parts[1]), list.Count, list.IsReadOnly), Is.EqualTo((true, 1, false)));
        list.RemoveAt(0);
        list.Add(parts[0]);
        using (var each = list.GetEnumerator())
        {
            Assert.That((each.MoveNext(), each.Current), Is.EqualTo((true, parts[0])));
        }

        list.Clear();
        Assert.That(list, Is.Empty);
        Array.ForEach(parts, static part => part.Dispose());
    }

    private static void All(IEnumerable<Tensor> found, params double[] expected)
    {
        foreach (var (tensor, number) in found.Select(static (tensor, number) => (tensor, number)))
        {
            Assert.That(tensor.Values(), Is.EqualTo(expected).Within(1e-6), $"the {number + 1}. way");
        }
    }
}
