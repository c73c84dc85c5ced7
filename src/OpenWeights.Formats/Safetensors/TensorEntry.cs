namespace OpenWeights.Formats.Safetensors;

/// <summary>A tensor as a header describes it: what it is and where it lies, without its bytes.</summary>
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

    /// <summary>The dimensions, outermost first; empty for a scalar. Elements lie in C order.</summary>
    public IReadOnlyList<long> Shape { get; }

    /// <summary>Whether the file holds the values in few bits, so that they are near those that they were made of; <see cref="DType"/> is then what they are
    /// read as.</summary>
    public bool IsQuantized { get; internal init; }

    /// <summary>The number of elements.</summary>
    public long ElementCount => TensorSize.Elements(Shape)!.Value;

    /// <summary>The bytes of the tensor.</summary>
    public long ByteLength { get; }

    /// <summary>The file that holds the tensor, for messages.</summary>
    public string FilePath { get; }

    /// <summary>Where the tensor's bytes begin, counted from the file's start.</summary>
    internal long FileOffset { get; }

    /// <summary>Name, element type and shape, for messages: <c>lm_head.weight BF16 [512,64]</c>.</summary>
    public override string ToString() => $"{Name} {DType} {Wording.Shape(Shape)}";
}
