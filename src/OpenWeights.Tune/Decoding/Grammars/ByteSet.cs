using System.Numerics;

namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>A set of bytes.</summary>
internal readonly record struct ByteSet(ulong A, ulong B, ulong C, ulong D)
{
    /// <summary>Whether it has no byte.</summary>
    internal bool IsEmpty => (A | B | C | D) == 0;

    /// <summary>The smallest byte of a set that is not empty.</summary>
    internal int First => A != 0 ? BitOperations.TrailingZeroCount(A)
        : B != 0 ? 64 + BitOperations.TrailingZeroCount(B)
        : C != 0 ? 128 + BitOperations.TrailingZeroCount(C)
        : 192 + BitOperations.TrailingZeroCount(D);

    public static ByteSet operator &(ByteSet a, ByteSet b) => new(a.A & b.A, a.B & b.B, a.C & b.C, a.D & b.D);

    public static ByteSet operator |(ByteSet a, ByteSet b) => new(a.A | b.A, a.B | b.B, a.C | b.C, a.D | b.D);

    public static ByteSet operator ~(ByteSet a) => new(~a.A, ~a.B, ~a.C, ~a.D);

    /// <summary>The bytes from one to another, both included.</summary>
    internal static ByteSet Range(int low, int high)
    {
        var set = default(ByteSet);
        for (var i = low; i <= high; i++)
        {
            set |= One(i);
        }

        return set;
    }

    /// <summary>Whether it has a byte.</summary>
    internal bool Contains(int value) => ((value switch { < 64 => A, < 128 => B, < 192 => C, _ => D }) >> (value & 63) & 1) != 0;

    private static ByteSet One(int value)
    {
        var bit = 1UL << (value & 63);
        return value switch { < 64 => new(bit, 0, 0, 0), < 128 => new(0, bit, 0, 0), < 192 => new(0, 0, bit, 0), _ => new(0, 0, 0, bit) };
    }
}
