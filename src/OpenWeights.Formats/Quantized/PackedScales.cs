using System.Buffers.Binary;
using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Quantized;

/// <summary>The scales of a <see cref="PackedMatrix"/>: a grid with one number for each block of the matrix, in the type of the file.</summary>
public sealed class PackedScales
{
    /// <summary>Rows of the grid.</summary>
    public required long Rows { get; init; }

    /// <summary>Columns of the grid.</summary>
    public required long Columns { get; init; }

    /// <summary>Rows of the matrix that share a scale.</summary>
    public required long BlockRows { get; init; }

    /// <summary>Columns of the matrix that share a scale.</summary>
    public required long BlockColumns { get; init; }

    /// <summary>F32, F16 or BF16; or U8, whose values are those of <see cref="Table"/>.</summary>
    public required DType Type { get; init; }

    /// <summary>The numbers, row by row.</summary>
    public required byte[] Bytes { get; init; }

    /// <summary>Values of the 256 bytes, where the scales are bytes.</summary>
    public float[]? Table { get; init; }

    /// <summary>Scales of the scales, for blocks of consecutive ones; null for none.</summary>
    public float[]? Outer { get; init; }

    /// <summary>Number of scales that share one of <see cref="Outer"/>.</summary>
    public int OuterBlock { get; init; }

    /// <summary>Added to scales that have scales.</summary>
    public float Offset { get; init; }

    /// <summary>Bytes of everything that is held.</summary>
    public long ByteLength => Bytes.LongLength + ((Outer?.LongLength ?? 0) * sizeof(float));

    /// <summary>Reads a row of the grid.</summary>
    /// <param name="row">The row.</param>
    /// <param name="values">As many numbers as the grid has columns.</param>
    public void Read(long row, Span<float> values)
    {
        var first = row * Columns;
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = At(first + i);
        }
    }

    private float At(long index) => Type switch
    {
        DType.F32 => BinaryPrimitives.ReadSingleLittleEndian(Bytes.AsSpan(checked((int)index * 4))),
        DType.F16 => (float)BinaryPrimitives.ReadHalfLittleEndian(Bytes.AsSpan(checked((int)index * 2))),
        DType.BF16 => BitConverter.Int32BitsToSingle(BinaryPrimitives.ReadUInt16LittleEndian(Bytes.AsSpan(checked((int)index * 2))) << 16),
        _ when Outer is null => Table![Bytes[index]],
        _ => (Table![Bytes[index]] * Outer[index / OuterBlock]) + Offset,
    };
}
