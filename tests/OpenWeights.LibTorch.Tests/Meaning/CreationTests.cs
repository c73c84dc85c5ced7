using NUnit.Framework;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Meaning;

public sealed class CreationTests
{
    private DisposeScope _scope = null!;

    [SetUp]
    public void Open() => _scope = NewDisposeScope();

    [TearDown]
    public void Close() => _scope.Dispose();

    [Test]
    public void Zeros_ones_and_full_have_the_shape_and_value_asked_for()
    {
        Assert.That(zeros(2, 3).Values(), Is.EqualTo(new double[6]));
        Assert.That(zeros([2, 3]).shape, Is.EqualTo(new long[] { 2, 3 }));
        Assert.That(ones(4).Values(), Is.EqualTo(new double[] { 1, 1, 1, 1 }));
        Assert.That(full([2, 2], 2.5).Values(), Is.EqualTo(new[] { 2.5, 2.5, 2.5, 2.5 }));
        Assert.That(zeros([]).ndim, Is.Zero);
        Assert.That(zeros([0, 3]).numel(), Is.Zero);
        Assert.That(empty(3, 5).shape, Is.EqualTo(new long[] { 3, 5 }));
    }

    [Test]
    public void Tensors_are_float32_on_the_cpu_unless_asked_otherwise()
    {
        Assert.That(zeros(1).dtype, Is.EqualTo(ScalarType.Float32));
        Assert.That(zeros(1).device_type, Is.EqualTo(DeviceType.CPU));
        Assert.That(zeros(1).requires_grad, Is.False);
        Assert.That(ones(1, dtype: ScalarType.BFloat16).dtype, Is.EqualTo(ScalarType.BFloat16));
        Assert.That(ones(1, requires_grad: true).requires_grad, Is.True);
        Assert.That(rand([2]).dtype, Is.EqualTo(ScalarType.Float32));
        Assert.That(randint(0L, 5L, [2]).dtype, Is.EqualTo(ScalarType.Int64));
    }

    [Test]
    public void Full_and_arange_take_their_type_from_the_numbers()
    {
        Assert.That(full([1], 1.0).dtype, Is.EqualTo(ScalarType.Float32));
        Assert.That(full([1], 1).dtype, Is.EqualTo(ScalarType.Int64));
        Assert.That(full([1], 1, dtype: ScalarType.Float32).dtype, Is.EqualTo(ScalarType.Float32));
        Assert.That(arange(0, 5).dtype, Is.EqualTo(ScalarType.Int64));
        Assert.That(arange(5L).Values(), Is.EqualTo(new double[] { 0, 1, 2, 3, 4 }));
        Assert.That(arange(0.0, 1, 0.25).dtype, Is.EqualTo(ScalarType.Float32));
        Assert.That(arange(0.0, 1, 0.25).Values(), Is.EqualTo(new[] { 0, 0.25, 0.5, 0.75 }));
        Assert.That(arange(3, -3, -2).Values(), Is.EqualTo(new double[] { 3, 1, -1 }));
        Assert.That(arange(0, 3, dtype: ScalarType.Float64).dtype, Is.EqualTo(ScalarType.Float64));
    }

    [Test]
    public void A_number_becomes_a_tensor_of_its_own_type_without_dimensions()
    {
        Assert.That(tensor(1f).dtype, Is.EqualTo(ScalarType.Float32));
        Assert.That(tensor(1.0).dtype, Is.EqualTo(ScalarType.Float64));
        Assert.That(tensor(1L).dtype, Is.EqualTo(ScalarType.Int64));
        Assert.That(tensor(1).dtype, Is.EqualTo(ScalarType.Int32));
        Assert.That(tensor(true).dtype, Is.EqualTo(ScalarType.Bool));
        Assert.That(tensor(2.5f).ndim, Is.Zero);
        Assert.That(tensor(2.5f).ToSingle(), Is.EqualTo(2.5f));
        Assert.That(tensor(2.5, dtype: ScalarType.Float32).dtype, Is.EqualTo(ScalarType.Float32));
    }

    [Test]
    public void An_array_is_copied_and_keeps_its_type()
    {
        var values = new float[] { 1, 2, 3, 4, 5, 6 };
        var made = tensor(values, [2, 3]);
        values[0] = 9;
        Assert.That(made.Values(), Is.EqualTo(new double[] { 1, 2, 3, 4, 5, 6 }));
        Assert.That(made.shape, Is.EqualTo(new long[] { 2, 3 }));
        Assert.That(tensor(new double[] { 1 }).dtype, Is.EqualTo(ScalarType.Float64));
        Assert.That(tensor(new long[] { 1 }).dtype, Is.EqualTo(ScalarType.Int64));
        Assert.That(tensor(new int[] { 1 }).dtype, Is.EqualTo(ScalarType.Int32));
        Assert.That(tensor(new byte[] { 200 }).Values(), Is.EqualTo(new double[] { 200 }));
        Assert.That(tensor(new[] { true, false }).Values(), Is.EqualTo(new double[] { 1, 0 }));
        Assert.That(tensor(new float[] { 1.5f }, dtype: ScalarType.BFloat16).dtype, Is.EqualTo(ScalarType.BFloat16));
        Assert.That(tensor(Array.Empty<float>()).shape, Is.EqualTo(new long[] { 0 }));
    }

    [Test]
    public void An_array_too_short_for_its_shape_is_refused()
    {
        Assert.That(() => tensor(new float[] { 1, 2, 3 }, [2, 2]), Throws.ArgumentException);
    }

    [Test]
    public void A_likeness_takes_shape_and_type_and_device()
    {
        var model = ones([2, 3], dtype: ScalarType.BFloat16);
        Assert.That(zeros_like(model).shape, Is.EqualTo(new long[] { 2, 3 }));
        Assert.That(zeros_like(model).dtype, Is.EqualTo(ScalarType.BFloat16));
        Assert.That(ones_like(model, dtype: ScalarType.Int64).dtype, Is.EqualTo(ScalarType.Int64));
        Assert.That(model.zeros_like().Values(), Is.All.Zero);
        Assert.That(empty_like(model).shape, Is.EqualTo(model.shape));
    }

    [Test]
    public void A_device_is_read_from_its_name()
    {
        Assert.That(device("cpu").type, Is.EqualTo(DeviceType.CPU));
        Assert.That(device(DeviceType.CPU).index, Is.EqualTo(-1));
        Assert.That(CPU.ToString(), Is.EqualTo("cpu"));
    }

    [Test]
    public void A_tensor_on_meta_has_a_shape_and_no_memory()
    {
        var ghost = empty([1L << 40], device: META);
        Assert.That(ghost.numel(), Is.EqualTo(1L << 40));
    }
}
