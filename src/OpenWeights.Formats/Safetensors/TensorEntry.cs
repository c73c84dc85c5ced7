namespace OpenWeights.Formats.Safetensors;

/// <summary>A tensor as the header describes it: name, type, shape and place in the file, without its bytes.</summary>
public sealed class TensorEntry
{
    internal TensorEntry(string name, DType dtype, IReadOnlyList<long> shape, long byteLength, string filePath, long fileOffset)
    {
        Name = name;
        DType = dtype;
        Shape = shape;
        ByteLength = byteLength;
        FilePath = filePath;
        FileOffset = fileOffset;
    }

    /// <summary>The tensor's name, such as <c>model.layers.0.self_attn.q_proj.weight</c>.</summary>
    public string Name { get; }

    /// <summary>The element type.</summary>
    public DType DType { get; }

    /// <summary>The dimensions, outermost first; empty for a scalar. Elements are in C order.</summary>
    public IReadOnlyList<long> Shape { get; }

    /// <summary>Whether the file holds the values quantised; <see cref="DType"/> is then the type that they are read as.</summary>
    public bool IsQuantized { get; internal init; }

    /// <summary>The number of elements.</summary>
    public long ElementCount => TensorSize.Elements(Shape)!.Value;

    /// <summary>The tensor's size in bytes.</summary>
    public long ByteLength { get; }

    /// <summary>The file that holds the tensor, for messages.</summary>
    public string FilePath { get; }

    /// <summary>Where the tensor's bytes begin, counted from the file's start.</summary>
    internal long FileOffset { get; }

    /// <summary>The same tensor under another name.</summary>
    internal TensorEntry Renamed(string name) => new(name, DType, Shape, ByteLength, FilePath, FileOffset) { IsQuantized = IsQuantized };

    /// <summary>Name, element type and shape, for messages: <c>lm_head.weight BF16 [512,64]</c>.</summary>
    public override string ToString() => $"{Name} {DType} {Wording.Shape(Shape)}";
}

/// <summary>The size of a shape, computed as the reference does: a product from left to right that must not overflow, even if a later
/// dimension is zero.</summary>
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
