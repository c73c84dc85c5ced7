namespace OpenWeights.Formats.Gguf;

/// <summary>Element types of GGUF tensors, with ggml's numbers
/// (<see href="https://github.com/ggml-org/ggml/blob/master/include/ggml.h"/>). The quantised ones are stored in blocks of a row.</summary>
public enum GgufType
{
    /// <summary>IEEE 754 single precision.</summary>
    F32 = 0,

    /// <summary>IEEE 754 half precision.</summary>
    F16 = 1,

    /// <summary>4 bits and a scale for 32 values.</summary>
    Q4_0 = 2,

    /// <summary>4 bits, a scale and a minimum for 32 values.</summary>
    Q4_1 = 3,

    /// <summary>5 bits and a scale for 32 values.</summary>
    Q5_0 = 6,

    /// <summary>5 bits, a scale and a minimum for 32 values.</summary>
    Q5_1 = 7,

    /// <summary>8 bits and a scale for 32 values.</summary>
    Q8_0 = 8,

    /// <summary>2 bits for 256 values, each 16 of them with a 4-bit scale and minimum.</summary>
    Q2_K = 10,

    /// <summary>3 bits for 256 values, each 16 of them with a 6-bit scale.</summary>
    Q3_K = 11,

    /// <summary>4 bits for 256 values, each 32 of them with a 6-bit scale and minimum.</summary>
    Q4_K = 12,

    /// <summary>5 bits for 256 values, each 32 of them with a 6-bit scale and minimum.</summary>
    Q5_K = 13,

    /// <summary>6 bits for 256 values, each 16 of them with an 8-bit scale.</summary>
    Q6_K = 14,

    /// <summary>4 bits for values that lie closer together near zero, and a scale for 32 of them.</summary>
    IQ4_NL = 20,

    /// <summary>bfloat16: the upper half of a single-precision float.</summary>
    BF16 = 30,

    /// <summary>4-bit floats (E2M1) and a power of two for 32 values, as in the MX formats (Rouhani et al., 2023).</summary>
    MXFP4 = 39,
}

/// <summary>Sizes of <see cref="GgufType"/>.</summary>
public static class GgufTypeExtensions
{
    /// <summary>The number of values that are stored together; 1 for plain numbers.</summary>
    /// <param name="type">The element type.</param>
    /// <exception cref="ArgumentOutOfRangeException">The type is not known.</exception>
    public static int BlockLength(this GgufType type) => type switch
    {
        GgufType.F32 or GgufType.F16 or GgufType.BF16 => 1,
        GgufType.Q4_0 or GgufType.Q4_1 or GgufType.Q5_0 or GgufType.Q5_1 or GgufType.Q8_0 or GgufType.IQ4_NL or GgufType.MXFP4 => 32,
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
        GgufType.Q4_0 or GgufType.IQ4_NL => 18,
        GgufType.Q4_1 => 20,
        GgufType.Q5_0 => 22,
        GgufType.Q5_1 => 24,
        GgufType.Q8_0 => 34,
        GgufType.Q2_K => 84,
        GgufType.Q3_K => 110,
        GgufType.Q4_K => 144,
        GgufType.Q5_K => 176,
        GgufType.Q6_K => 210,
        GgufType.MXFP4 => 17,
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
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        >= 24 and <= 28 => "of whole numbers or double precision",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        var number => number.ToString(System.Globalization.CultureInfo.InvariantCulture),
    };

    private static ArgumentOutOfRangeException Unknown(GgufType type) => new(nameof(type), type, "not an element type that is known here");
}
