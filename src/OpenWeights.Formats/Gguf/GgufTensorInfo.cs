namespace OpenWeights.Formats.Gguf;

/// <summary>A tensor as a GGUF header describes it.</summary>
/// <param name="Name">Its name, such as <c>blk.0.attn_q.weight</c>.</param>
/// <param name="Type">The element type.</param>
/// <param name="Shape">The dimensions, outermost first (the file has them innermost first).</param>
/// <param name="FileOffset">Where its bytes begin, counted from the file's start.</param>
public sealed record GgufTensorInfo(string Name, GgufType Type, IReadOnlyList<long> Shape, long FileOffset)
{
    /// <summary>The number of values.</summary>
    public long ElementCount => Shape.Aggregate(1L, static (product, size) => checked(product * size));

    /// <summary>The length of a row, which is stored in whole blocks.</summary>
    public long RowLength => Shape.Count == 0 ? 1 : Shape[^1];

    /// <summary>The number of bytes.</summary>
    public long ByteLength => Type.Bytes(ElementCount);

    /// <summary>Name, type and shape, for messages.</summary>
    public override string ToString() => $"{Name} {Type} {Wording.Shape(Shape)}";
}
