using System.Numerics;
using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Torch;

/// <summary>bfloat16 numbers in memory: the upper half of a float32's bits.</summary>
internal static class BFloat16Bits
{
    private const ushort NotANumber = 0x7FC0;

    /// <summary>Numbers as float32, which holds each of them.</summary>
    internal static void ToFloat(ReadOnlySpan<ushort> numbers, Span<float> results)
    {
        var i = 0;
        for (; i + Vector<ushort>.Count <= numbers.Length; i += Vector<ushort>.Count)
        {
            Vector.Widen(new Vector<ushort>(numbers[i..]), out var low, out var high);
            (low << 16).As<uint, float>().CopyTo(results[i..]);
            (high << 16).As<uint, float>().CopyTo(results[(i + Vector<float>.Count)..]);
        }

        for (; i < numbers.Length; i++)
        {
            results[i] = BitConverter.UInt32BitsToSingle((uint)numbers[i] << 16);
        }
    }

    /// <summary>The nearest bfloat16 numbers, halves to the even one, as torch rounds.</summary>
    internal static void FromFloat(ReadOnlySpan<float> numbers, Span<ushort> results)
    {
        var i = 0;
        for (; i + Vector<ushort>.Count <= numbers.Length; i += Vector<ushort>.Count)
        {
            var low = Rounded(new Vector<float>(numbers[i..]));
            var high = Rounded(new Vector<float>(numbers[(i + Vector<float>.Count)..]));
            Vector.Narrow(low, high).CopyTo(results[i..]);
        }

        Span<float> rest = stackalloc float[Vector<ushort>.Count];
        Span<uint> rounded = MemoryMarshal.Cast<float, uint>(rest);
        if (i < numbers.Length)
        {
            numbers[i..].CopyTo(rest);
            var (low, high) = (Rounded(new Vector<float>(rest)), Rounded(new Vector<float>(rest[Vector<float>.Count..])));
            low.CopyTo(rounded);
            high.CopyTo(rounded[Vector<float>.Count..]);
            for (var r = 0; i < numbers.Length; i++, r++)
            {
                results[i] = (ushort)rounded[r];
            }
        }
    }

    // In the lower half of each element.
    private static Vector<uint> Rounded(Vector<float> numbers)
    {
        var bits = numbers.As<float, uint>();
        var nearest = (bits + new Vector<uint>(0x7FFF) + ((bits >>> 16) & Vector<uint>.One)) >>> 16;
        return Vector.ConditionalSelect(Vector.Equals(numbers, numbers).As<int, uint>(), nearest, new Vector<uint>(NotANumber));
    }
}
