using System.Runtime.InteropServices;
using NUnit.Framework;
using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Kernels;

/// <summary>float32 in two parts of 16 bits.</summary>
public sealed class SplitFloatTests
{
    // Ties on both sides of even and odd, the ends of the range, zeros, the smallest, infinities; and a number that fills no vector.
    private static readonly uint[] s_edges =
    [
        0x3F808000, 0x3F818000, 0xBF808000, 0xBF818000, 0x3F807FFF, 0x3F808001, 0x00000000, 0x80000000, 0x00000001, 0x80008000,
        0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x007FFFFF,
    ];

    [Test]
    public void Two_halves_are_the_number_bit_for_bit()
    {
        using var scope = NewDisposeScope();
        var random = new Random(1);
        var bits = s_edges.Concat(Enumerable.Range(0, 100_001).Select(_ => (uint)random.NextInt64(1L << 32))).Where(static b => !float.IsNaN(BitConverter.UInt32BitsToSingle(b))).ToArray();
        var (upper, lower) = Split(bits);
        Assert.That(Bits(SplitFloat.Merge(upper, lower)), Is.EqualTo(bits));
    }

    [Test]
    public void The_upper_half_is_the_nearest_bfloat16_and_ties_go_away_from_zero()
    {
        using var scope = NewDisposeScope();
        var random = new Random(2);
        var bits = s_edges.Concat(Enumerable.Range(0, 10_001).Select(_ => (uint)random.NextInt64(1L << 32))).Where(static b => !float.IsNaN(BitConverter.UInt32BitsToSingle(b))).ToArray();
        var upper = Bits(Split(bits).Upper.to(float32));
        var torchs = Bits(tensor(Array.ConvertAll(bits, BitConverter.UInt32BitsToSingle)).to(bfloat16).to(float32));
        for (var i = 0; i < bits.Length; i++)
        {
            Assert.That(upper[i], Is.EqualTo((bits[i] & 0xFFFF) == 0x8000 ? (bits[i] & 0xFFFF0000) + 0x10000 : torchs[i]), $"{bits[i]:X8}");
        }
    }

    [Test]
    public void What_is_not_a_number_stays_none()
    {
        using var scope = NewDisposeScope();
        var (upper, lower) = Split([0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000, 0x7F800001]);
        Assert.That(Array.TrueForAll(Bits(upper.to(float32)), static b => float.IsNaN(BitConverter.UInt32BitsToSingle(b))));
        Assert.That(Array.TrueForAll(Bits(SplitFloat.Merge(upper, lower)), static b => float.IsNaN(BitConverter.UInt32BitsToSingle(b))));
    }

    private static (Tensor Upper, Tensor Lower) Split(uint[] bits)
    {
        var (upper, lower) = (zeros([bits.Length], bfloat16), zeros([bits.Length], int16));
        SplitFloat.Split(tensor(Array.ConvertAll(bits, BitConverter.UInt32BitsToSingle)), upper, lower);
        return (upper, lower);
    }

    private static uint[] Bits(Tensor numbers) => MemoryMarshal.Cast<byte, uint>(numbers.bytes).ToArray();
}
