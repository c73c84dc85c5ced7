using System.Collections.Frozen;

namespace OpenWeights.Formats.Safetensors;

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

    /// <summary>Finds the type of a name as it stands in a header, such as <c>BF16</c>.</summary>
    /// <param name="name">The name, in the case of the format.</param>
    /// <param name="dtype">The type, where the name is known.</param>
    /// <returns>Whether the name is known.</returns>
    public static bool TryParse(string name, out DType dtype) => ByName.TryGetValue(name, out dtype);
}
