using System.Collections.Frozen;

namespace OpenWeights.Formats.Safetensors;

/// <summary>
/// The element types of safetensors, in the order of the reference implementation
/// (<see href="https://github.com/huggingface/safetensors/blob/main/safetensors/src/tensor.rs"/>), in which a later one is written first.
/// All are little-endian.
/// </summary>
public enum DType
{
    /// <summary>A boolean in a byte.</summary>
    BOOL,

    /// <summary>4-bit float of the OCP microscaling formats (MXFP4); two to a byte.</summary>
    F4,

    /// <summary>6-bit float with 2 exponent and 3 mantissa bits (MXFP6); four to three bytes.</summary>
    F6_E2M3,

    /// <summary>6-bit float with 3 exponent and 2 mantissa bits (MXFP6); four to three bytes.</summary>
    F6_E3M2,

    /// <summary>Unsigned byte.</summary>
    U8,

    /// <summary>Signed byte.</summary>
    I8,

    /// <summary>8-bit float with 5 exponent and 2 mantissa bits.</summary>
    F8_E5M2,

    /// <summary>8-bit float with 4 exponent and 3 mantissa bits, without infinities.</summary>
    F8_E4M3,

    /// <summary>8-bit power-of-two scale of the OCP microscaling formats.</summary>
    F8_E8M0,

    /// <summary>8-bit float with 4 exponent and 3 mantissa bits, one zero and one NaN.</summary>
    F8_E4M3FNUZ,

    /// <summary>8-bit float with 5 exponent and 2 mantissa bits, one zero and one NaN.</summary>
    F8_E5M2FNUZ,

    /// <summary>Signed 16-bit integer.</summary>
    I16,

    /// <summary>Unsigned 16-bit integer.</summary>
    U16,

    /// <summary>IEEE 754 half precision.</summary>
    F16,

    /// <summary>bfloat16: the upper half of a single-precision float.</summary>
    BF16,

    /// <summary>Signed 32-bit integer.</summary>
    I32,

    /// <summary>Unsigned 32-bit integer.</summary>
    U32,

    /// <summary>IEEE 754 single precision.</summary>
    F32,

    /// <summary>Complex number of two single-precision floats.</summary>
    C64,

    /// <summary>IEEE 754 double precision.</summary>
    F64,

    /// <summary>Signed 64-bit integer.</summary>
    I64,

    /// <summary>Unsigned 64-bit integer.</summary>
    U64,
}

/// <summary>Sizes and names of <see cref="DType"/>.</summary>
public static class DTypeExtensions
{
    private static readonly FrozenDictionary<string, DType> ByName =
        Enum.GetValues<DType>().ToFrozenDictionary(dtype => dtype.ToString(), StringComparer.Ordinal);

    /// <summary>Bits of one element.</summary>
    /// <param name="dtype">The element type.</param>
    /// <exception cref="ArgumentOutOfRangeException">The value is no element type.</exception>
    public static int BitSize(this DType dtype) => dtype switch
    {
        DType.F4 => 4,
        DType.F6_E2M3 or DType.F6_E3M2 => 6,
        DType.BOOL or DType.U8 or DType.I8 => 8,
        DType.F8_E5M2 or DType.F8_E4M3 or DType.F8_E8M0 or DType.F8_E4M3FNUZ or DType.F8_E5M2FNUZ => 8,
        DType.I16 or DType.U16 or DType.F16 or DType.BF16 => 16,
        DType.I32 or DType.U32 or DType.F32 => 32,
        DType.C64 or DType.F64 or DType.I64 or DType.U64 => 64,
        _ => throw new ArgumentOutOfRangeException(nameof(dtype), dtype, "not an element type of safetensors"),
    };

    /// <summary>Finds a type by its name in a header, such as <c>BF16</c>.</summary>
    /// <param name="name">The name, in the case of the format.</param>
    /// <param name="dtype">The type, where the name is known.</param>
    /// <returns>Whether the name is known.</returns>
    public static bool TryParse(string name, out DType dtype) => ByName.TryGetValue(name, out dtype);
}
