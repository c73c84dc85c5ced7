using NUnit.Framework;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Meaning;

public sealed class ConversionTests
{
    // Halves between two neighbours, signs, the smallest and largest numbers, infinities and NaN.
    private static readonly float[] s_awkward =
    [
        0f, -0f, 1f, -1f, 1.00390625f, 1.01171875f, 3.1415927f, 1e-3f, 65504f, 65519.996f, 65520f, 1e30f, -1e30f, 3.3895314e38f, 3.4e38f,
        6.0e-8f, 2.98e-8f, 1e-40f, float.Epsilon, float.PositiveInfinity, float.NegativeInfinity, float.NaN,
    ];

    private DisposeScope _scope = null!;

    [SetUp]
    public void Open() => _scope = NewDisposeScope();

    [TearDown]
    public void Close() => _scope.Dispose();

    [Test]
    public void Bfloat16_rounds_to_the_nearest_and_to_even_between_two()
    {
        var found = tensor(s_awkward).to(ScalarType.BFloat16).to(ScalarType.Float32).Values();
        Assert.That(found, Is.EqualTo(s_awkward.Select(static x => (double)ToBFloat16(x))));
    }

    [Test]
    public void Half_rounds_as_the_runtimes_own_half()
    {
        var found = tensor(s_awkward).to(ScalarType.Float16).to(ScalarType.Float32).Values();
        Assert.That(found, Is.EqualTo(s_awkward.Select(static x => (double)(Half)x)));
    }

    [Test]
    public void Every_bfloat16_survives_the_way_through_float32()
    {
        var bits = new byte[65536 * 2];
        for (var i = 0; i < 65536; i++)
        {
            BitConverter.TryWriteBytes(bits.AsSpan(2 * i), (ushort)i);
        }

        var all = zeros(65536, dtype: ScalarType.BFloat16);
        all.bytes = bits;
        var back = all.to(ScalarType.Float32).to(ScalarType.BFloat16).Bits();
        for (var i = 0; i < 65536; i++)
        {
            var isNaN = (i & 0x7F80) == 0x7F80 && (i & 0x7F) != 0;
            if (!isNaN)
            {
                Assert.That(BitConverter.ToUInt16(back, 2 * i), Is.EqualTo(i));
            }
        }
    }

    [Test]
    public void Integers_are_cut_off_and_truth_is_what_is_not_zero()
    {
        var numbers = tensor(new float[] { -1.9f, -0.5f, 0, 0.5f, 1.9f });
        Assert.That(numbers.to(ScalarType.Int64).Values(), Is.EqualTo(new double[] { -1, 0, 0, 0, 1 }));
        Assert.That(numbers.bfloat16().dtype, Is.EqualTo(ScalarType.BFloat16));
    }

    [Test]
    public void The_same_type_shares_memory_unless_a_copy_is_asked_for()
    {
        var origin = ones(2);
        var same = origin.to(ScalarType.Float32);
        var copy = origin.to(ScalarType.Float32, copy: true);
        _ = origin.add_(1);
        Assert.That(same.Values(), Is.EqualTo(new double[] { 2, 2 }));
        Assert.That(copy.Values(), Is.EqualTo(new double[] { 1, 1 }));
    }

    [Test]
    public void DisposeAfter_disposes_the_origin()
    {
        var origin = ones(2);
        var other = origin.to(ScalarType.BFloat16, disposeAfter: true);
        Assert.That(origin.IsInvalid, Is.True);
        Assert.That(other.Values(), Is.EqualTo(new double[] { 1, 1 }));
    }

    [Test]
    public void An_item_is_of_the_tensors_own_type()
    {
        Assert.That(tensor(2.5f).item<float>(), Is.EqualTo(2.5f));
        Assert.That(tensor(7L).item<long>(), Is.EqualTo(7));
        Assert.That(ones(1, dtype: ScalarType.Bool).item<bool>(), Is.True);
        Assert.That(ones([1, 1], dtype: ScalarType.Float16).item<Half>(), Is.EqualTo((Half)1));
        Assert.That(() => tensor(2.5f).item<double>(), Throws.ArgumentException);
        Assert.That(() => ones(1, dtype: ScalarType.BFloat16).item<float>(), Throws.ArgumentException);
        Assert.That(() => ones(2).item<float>(), Throws.ArgumentException);
    }

    [Test]
    public void A_number_is_read_from_any_type()
    {
        var number = full([1], 2.5);
        Assert.That(number.to(ScalarType.BFloat16).ToSingle(), Is.EqualTo(2.5f));
        Assert.That(number.to(ScalarType.Float16).ToDouble(), Is.EqualTo(2.5));
        Assert.That(tensor((1L << 40) + 1).ToInt64(), Is.EqualTo((1L << 40) + 1));
        Assert.That(number.gt(2).ToBoolean(), Is.True);
        Assert.That(number.ToScalar().ToDouble(), Is.EqualTo(2.5));
        Assert.That(() => ones(2).ToSingle(), Throws.InstanceOf<Exception>());
    }

    [Test]
    public void Bytes_are_a_live_view_of_the_memory()
    {
        var numbers = zeros(2);
        BitConverter.TryWriteBytes(numbers.bytes[4..], 1.5f);
        Assert.That(numbers.Values(), Is.EqualTo(new[] { 0, 1.5 }));
        var large = zeros(3, dtype: ScalarType.Int64);
        large.bytes = new byte[24].Select(static (_, i) => (byte)(i % 8 == 0 ? i / 8 : 0)).ToArray();
        Assert.That(large.Values(), Is.EqualTo(new double[] { 0, 1, 2 }));
        Assert.That(zeros(0).bytes.Length, Is.Zero);
    }

    [Test]
    public void Bytes_of_strided_memory_are_refused()
    {
        var turned = ones(2, 3).t();
        Assert.That(() => turned.bytes.Length, Throws.InvalidOperationException);
        Assert.That(() => ones(2).bytes = new byte[3], Throws.ArgumentException);
    }

    // Adding half of the last place, and one less where the kept part is even, rounds to nearest even.
    private static float ToBFloat16(float value)
    {
        if (float.IsNaN(value))
        {
            return value;
        }

        var bits = BitConverter.SingleToUInt32Bits(value);
        bits += 0x7FFF + ((bits >> 16) & 1);
        return BitConverter.UInt32BitsToSingle(bits & 0xFFFF0000);
    }
}
