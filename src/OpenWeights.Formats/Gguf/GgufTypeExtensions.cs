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
        GgufType.Q2_K or GgufType.Q3_K or GgufType.Q4_K or GgufType.Q5_K or GgufType.Q6_K => 256,
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
        GgufType.Q2_K => 84,
        GgufType.Q3_K => 110,
        GgufType.Q4_K => 144,
        GgufType.Q5_K => 176,
        GgufType.Q6_K => 210,
        _ => throw Unknown(type),
    };

    /// <summary>The bytes that values need; they must fill whole blocks.</summary>
    /// <param name="type">The element type.</param>
    /// <param name="values">The number of values.</param>
    public static long Bytes(this GgufType type, long values) => checked(values / type.BlockLength() * type.BlockBytes());

    /// <summary>ggml's name of a type that is not known here; its number where it has none.</summary>
    /// <param name="type">The type.</param>
    internal static string ForeignName(this GgufType type) => (int)type switch
    {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        >= 24 and <= 28 => "of whole numbers or double precision",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        var number => number.ToString(System.Globalization.CultureInfo.InvariantCulture),
    };

    private static ArgumentOutOfRangeException Unknown(GgufType type) => new(nameof(type), type, "not an element type that is known here");
}
