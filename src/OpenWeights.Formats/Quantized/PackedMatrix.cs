namespace OpenWeights.Formats.Quantized;

/// <summary>
/// A quantised matrix in the one layout that all formats are read into: w = (level of the code - zero) x scale. Codes follow each other
/// row by row, the first in the lowest bits, and each row begins at a byte; scales and zeros are those of blocks.
/// </summary>
public sealed class PackedMatrix
{
    /// <summary>Number of output features of the weight.</summary>
    public required long OutFeatures { get; init; }

    /// <summary>Number of input features of the weight.</summary>
    public required long InFeatures { get; init; }

    /// <summary>Rows of codes. Where blocks run on from row to row of the weight, a row of codes is a block, the last of which may be padded.</summary>
    public required long Rows { get; init; }

    /// <summary>Codes of a row.</summary>
    public required long Columns { get; init; }

    /// <summary>Bits of a code, 1 to 8.</summary>
    public required int Bits { get; init; }

    /// <summary>Bytes from row to row.</summary>
    public required long RowBytes { get; init; }

    /// <summary>The codes.</summary>
    public required byte[] Codes { get; init; }

    /// <summary>What the codes mean; as many as a code has values.</summary>
    public required float[] Levels { get; init; }

    /// <summary>The scales.</summary>
    public required PackedScales Scales { get; init; }

    /// <summary>What is subtracted from the levels, one for each scale; null for nothing.</summary>
    public byte[]? Zeros { get; init; }

    /// <summary>The column of scales (and zeros) of each column; null where columns with one scale follow each other.</summary>
    public int[]? Groups { get; init; }

    /// <summary>Bytes of everything that is held.</summary>
    public long ByteLength => Codes.LongLength + Scales.ByteLength + (Zeros?.LongLength ?? 0) + ((Groups?.LongLength ?? 0) * sizeof(int));

    /// <summary>Computes the values of rows of codes.</summary>
    /// <param name="first">The first row.</param>
    /// <param name="rows">Number of rows.</param>
    /// <param name="values">The values, row by row.</param>
    public void Read(long first, long rows, Span<float> values)
    {
        var (scales, read) = (new float[Scales.Columns], -1L);
        for (var row = first; row < first + rows; row++)
        {
            var gridRow = row / Scales.BlockRows;
            if (gridRow != read)
            {
                Scales.Read(gridRow, scales);
                read = gridRow;
            }

            var zeros = Zeros is null ? default : Zeros.AsSpan(checked((int)(gridRow * Scales.Columns)), scales.Length);
            ReadRow(Codes.AsSpan(checked((int)(row * RowBytes)), (int)RowBytes), scales, zeros, values.Slice((int)((row - first) * Columns), (int)Columns));
        }
    }

    /// <summary>Reads the codes of a row, a byte each.</summary>
    /// <param name="row">The row.</param>
    /// <param name="codes">As many bytes as a row has codes.</param>
    public void ReadCodes(long row, Span<byte> codes) => CodeLayout.Unpack(Codes.AsSpan(checked((int)(row * RowBytes)), (int)RowBytes), Bits, codes);

    private void ReadRow(ReadOnlySpan<byte> codes, ReadOnlySpan<float> scales, ReadOnlySpan<byte> zeros, Span<float> values)
    {
        var (mask, block) = ((1 << Bits) - 1, (int)Scales.BlockColumns);
        for (var i = 0; i < values.Length; i++)
        {
            var bit = i * Bits;
            var at = bit >> 3;
            var window = codes[at] | (at + 1 < codes.Length ? codes[at + 1] << 8 : 0);
            var level = Levels[(window >> (bit & 7)) & mask];
            var group = Groups is null ? i / block : Groups[i];
            values[i] = (zeros.IsEmpty ? level : level - zeros[group]) * scales[group];
        }
    }
}
