namespace OpenWeights.Formats.Safetensors;

/// <summary>What a shape amounts to, as the reference counts it: a product from left to right that must not overflow, even if a
/// later dimension is zero.</summary>
internal static class TensorSize
{
    /// <summary>The bytes of a tensor; null, with the reason, where there is no such number.</summary>
    public static long? Bytes(DType dtype, IReadOnlyList<long> shape, out string? problem)
    {
        if (Elements(shape) is not { } elements)
        {
            problem = $"the shape {Wording.Shape(shape)} has more elements than can be counted in 64 bits";
            return null;
        }

        var bits = (Int128)elements * dtype.BitSize();
        problem = bits % 8 != 0 ? $"{elements} elements of {dtype} do not fill whole bytes"
            : bits / 8 > long.MaxValue ? $"the shape {Wording.Shape(shape)} of {dtype} needs more bytes than can be counted in 64 bits"
            : null;
        return problem is null ? (long)(bits / 8) : null;
    }

    /// <summary>The number of elements; null where a dimension is negative or the product overflows.</summary>
    public static long? Elements(IReadOnlyList<long> shape)
    {
        var elements = (Int128)1;
        foreach (var dimension in shape)
        {
            elements *= dimension;
            if (dimension < 0 || elements > long.MaxValue)
            {
                return null;
            }
        }

        return (long)elements;
    }
}
