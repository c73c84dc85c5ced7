using System.Buffers.Binary;
using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Quantized;

/// <summary>Matrices with a code in each byte, or two, in the order of the weights.</summary>
internal static class Scaled
{
    /// <summary>A matrix of bytes.</summary>
    public static PackedMatrix Matrix(long outputs, long inputs, byte[] codes, float[] levels, PackedScales scales, byte[]? zeros = null) => new()
    {
        OutFeatures = outputs,
        InFeatures = inputs,
        Rows = outputs,
        Columns = inputs,
        Bits = 8,
        RowBytes = inputs,
        Codes = codes,
        Levels = levels,
        Scales = scales,
        Zeros = zeros,
    };

    /// <summary>A matrix of E2M1 floats, two to a byte.</summary>
    public static PackedMatrix Fp4Matrix(long outputs, long inputs, byte[] codes, int block, byte[] scales, float[] table) => new()
    {
        OutFeatures = outputs,
        InFeatures = inputs,
        Rows = outputs,
        Columns = inputs,
        Bits = 4,
        RowBytes = inputs / 2,
        Codes = codes,
        Levels = SmallFloats.E2M1,
        Scales = new PackedScales { Rows = outputs, Columns = inputs / block, BlockRows = 1, BlockColumns = block, Type = DType.U8, Bytes = scales, Table = table },
    };

    /// <summary>Bytes of float32 numbers after a calculation.</summary>
    public static byte[] Of(float[] values, Func<float, float> change)
    {
        var bytes = new byte[values.Length * 4];
        for (var i = 0; i < values.Length; i++)
        {
            BinaryPrimitives.WriteSingleLittleEndian(bytes.AsSpan(i * 4), change(values[i]));
        }

        return bytes;
    }

    /// <summary>The values of an 8-bit float type.</summary>
    public static float[] LevelsOf(TensorEntry codes) => codes.DType switch
    {
        DType.F8_E4M3 => SmallFloats.E4M3,
        DType.F8_E5M2 => SmallFloats.E5M2,
        DType.I8 => SmallFloats.SignedBytes,
        _ => throw new InvalidDataException($"{codes.FilePath}: {codes.Name} is of type {codes.DType}, whose values are not known here; download the files again"),
    };

    /// <summary>A stack of matrices of a byte a code, with a grid of scales, in whatever blocks their shapes mean.</summary>
    /// <param name="files">The stored tensors.</param>
    /// <param name="codes">The codes, [out, in] or [count, out, in].</param>
    /// <param name="scales">The scales: one, one for each output or group, or a grid of blocks.</param>
    /// <param name="block">Rows and columns of a block; null where the scales' shape tells.</param>
    public static PackedTensor Tensor(StoredParts files, TensorEntry codes, TensorEntry scales, (long Rows, long Columns)? block)
    {
        if (codes.Shape.Count is not (2 or 3) || codes.ElementCount == 0)
        {
            StoredParts.RequireDimensions(codes, 2);
        }

        StoredParts.RequireType(scales, DType.F32, DType.BF16, DType.F16);
        var (outputs, inputs, count) = (codes.Shape[^2], codes.Shape[^1], codes.Shape.Count == 2 ? 1 : codes.Shape[0]);
        var (rows, columns) = Grid(codes, scales, outputs, inputs, count, block);
        var (blockRows, blockColumns) = block is { } given && rows * columns > 1 ? given : ((outputs + rows - 1) / rows, (inputs + columns - 1) / columns);
        return new PackedTensor(codes.Name, codes.Shape, [codes, scales])
        {
            Read = i => Matrix(outputs, inputs, codes.Shape.Count == 2 ? files.Bytes(codes) : files.Bytes(codes, i), LevelsOf(codes), new PackedScales
            {
                Rows = rows,
                Columns = columns,
                BlockRows = blockRows,
                BlockColumns = blockColumns,
                Type = scales.DType,
                Bytes = codes.Shape.Count == 2 ? files.Bytes(scales) : files.Bytes(scales, i),
            }),
        };
    }

    // Rows and columns of the scales of a matrix.
    private static (long Rows, long Columns) Grid(TensorEntry codes, TensorEntry scales, long outputs, long inputs, long count, (long Rows, long Columns)? block)
    {
        var of = $"{codes.Name} {Wording.Shape(codes.Shape)}";
        if (scales.ElementCount == count && (codes.Shape.Count == 2 || scales.Shape.Count is 1 or 3))
        {
            return (1, 1);
        }

        if (block is { } size)
        {
            long[] grid = [(outputs + size.Rows - 1) / size.Rows, (inputs + size.Columns - 1) / size.Columns];
            StoredParts.RequireShape(scales, $"{of} in blocks of {size.Rows} x {size.Columns}", codes.Shape.Count == 2 ? grid : [count, .. grid]);
            return (grid[0], grid[1]);
        }

        // One scale for each output, or for each group of inputs of an output.
        long[] own = [.. scales.Shape.Skip(codes.Shape.Count - 2)];
        var columns = own.Length == 2 ? own[1] : 1;
        if (own.Length is 0 or > 2 || own[0] != outputs || columns == 0 || inputs % columns != 0)
        {
            StoredParts.RequireShape(scales, of, [.. codes.Shape.Take(codes.Shape.Count - 1), 1]);
        }

        return (outputs, columns);
    }
}
