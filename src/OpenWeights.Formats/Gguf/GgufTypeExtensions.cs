namespace OpenWeights.Formats.Gguf;

/// <summary>Sizes of <see cref="GgufType"/>.</summary>
public static class GgufTypeExtensions
{
    /// <summary>The number of values that are stored together; 1 for plain numbers.</summary>
    /// <param name="type">The element type.</param>
    /// <exception cref="ArgumentOutOfRangeException">The type is not known.</exception>
    public static int BlockLength(this GgufType type) => type switch
    {
        GgufType.F32 or GgufType.F16 or GgufType.BF16 => 1,
        GgufType.Q4_0 or GgufType.Q4_1 or GgufType.Q5_0 or GgufType.Q5_1 or GgufType.Q8_0 => 32,
        GgufType.Q4_K or GgufType.Q5_K or GgufType.Q6_K => 256,
        _ => throw Unknown(type),
    };

    /// <summary>The bytes of a block.</summary>
    /// <param name="type">The element type.</param>
    /// <exception cref="ArgumentOutOfRangeException">The type is not known.</exception>
    public static int BlockBytes(this GgufType type) => type switch
    {
        GgufType.F32 => 4,
        GgufType.F16 or GgufType.BF16 => 2,
        GgufType.Q4_0 => 18,
        GgufType.Q4_1 => 20,
        GgufType.Q5_0 => 22,
        GgufType.Q5_1 => 24,
        GgufType.Q8_0 => 34,
        GgufType.Q4_K => 144,
        GgufType.Q5_K => 176,
        GgufType.Q6_K => 210,
        _ => throw Unknown(type),
    };

    /// <summary>The bytes that values need; they must fill whole blocks.</summary>
    /// <param name="type">The element type.</param>
    /// <param name="values">The number of values.</param>
    public static long Bytes(this GgufType type, long values) => checked(values / type.BlockLength() * type.BlockBytes());

    private static ArgumentOutOfRangeException Unknown(GgufType type) => new(nameof(type), type, "not an element type that is known here");
}
