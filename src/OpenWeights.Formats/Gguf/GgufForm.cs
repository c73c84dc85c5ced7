namespace OpenWeights.Formats.Gguf;

/// <summary>
/// How a tensor of a GGUF file follows from a checkpoint's tensor, or from a part of it. Both are seen as rows: all dimensions but the last
/// together, and the elements of a vector one by one.
/// </summary>
internal sealed record GgufForm
{
    /// <summary>The same values in the same order.</summary>
    public static GgufForm Same { get; } = new();

    /// <summary>For each row of the file the checkpoint's row, which may be a part of all; null for the same rows.</summary>
    public IReadOnlyList<int>? Rows { get; init; }

    /// <summary>For each column of the file the checkpoint's column; null for the same columns.</summary>
    public IReadOnlyList<int>? Columns { get; init; }

    /// <summary>Factor of each row of the file, or one factor of all; null for none. What is read back has the factors in its weights.</summary>
    public IReadOnlyList<float>? Factors { get; init; }

    /// <summary>Offset added to every value.</summary>
    public float Offset { get; init; }

    /// <summary>Whether the file has minus the exponential of the values, as of Mamba's A_log.</summary>
    public bool IsNegativeExponential { get; init; }

    /// <summary>The dimensions that differ.</summary>
    public GgufShape Shape { get; init; } = GgufShape.Same;

    /// <summary>Whether values differ, and not only their places.</summary>
    public bool ChangesValues => Factors is not null || Offset != 0 || IsNegativeExponential;

    /// <summary>The factor of a row of the file.</summary>
    /// <param name="row">The row.</param>
    public float Factor(long row) => Factors is null ? 1 : Factors[Factors.Count == 1 ? 0 : (int)row];

    /// <summary>The shape in a file.</summary>
    /// <param name="shape">The checkpoint's shape.</param>
    public IReadOnlyList<long> FileShape(IReadOnlyList<long> shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        if (Rows is null)
        {
            return Shape.ToFile(shape);
        }

        var rows = shape.Count == 1 ? shape[0] : shape.Take(shape.Count - 1).Aggregate(1L, static (product, size) => product * size);
        long[] own = [.. shape];
        own[Math.Max(0, shape.Count - 2)] = own[Math.Max(0, shape.Count - 2)] * Rows.Count / rows;
        return Shape.ToFile(own);
    }

    /// <summary>Rows from split-half to interleaved rotary layout, head by head.</summary>
    /// <param name="heads">The number of heads.</param>
    /// <param name="headRows">Rows of a head.</param>
    /// <param name="rotated">Rows of a head that are rotated, the first ones; null for all.</param>
    public static IReadOnlyList<int> PairedRows(int heads, int headRows, int? rotated = null)
    {
        var turned = rotated ?? headRows;
        return Order((long)heads * headRows, row =>
        {
            var (head, inner) = Math.DivRem(row, headRows);
            return ((long)head * headRows) + (inner < turned ? (inner % 2 * (turned / 2)) + (inner / 2) : inner);
        });
    }

    /// <summary>Adjacent rows.</summary>
    /// <param name="first">The first.</param>
    /// <param name="count">Their number.</param>
    public static IReadOnlyList<int> Range(int first, int count) => Order(count, row => (long)first + row);

    /// <summary>An order of rows or columns, computed as it is read.</summary>
    /// <param name="count">Its length.</param>
    /// <param name="of">The checkpoint's row for each of the file's.</param>
    internal static IReadOnlyList<int> Order(long count, Func<int, long> of) => new ComputedList<int>(count, row => of(row) is var own && own is >= 0 and <= int.MaxValue ? (int)own : -1);
}

/// <summary>Dimensions of a tensor in a GGUF file that differ from the checkpoint's; the order of the elements is the same.</summary>
/// <param name="ToFile">From the checkpoint's shape to the file's.</param>
/// <param name="ToCheckpoint">From the file's shape to the checkpoint's.</param>
internal sealed record GgufShape(Func<IReadOnlyList<long>, IReadOnlyList<long>> ToFile, Func<IReadOnlyList<long>, IReadOnlyList<long>> ToCheckpoint)
{
    /// <summary>The same dimensions.</summary>
    public static GgufShape Same { get; } = new(static shape => shape, static shape => shape);

    /// <summary>A convolution of each channel: [channels, 1, kernel] in the checkpoint, [channels, kernel] in the file.</summary>
    public static GgufShape Convolution { get; } = new(static shape => [shape[0], shape[^1]], static shape => [shape[0], 1, shape[^1]]);

    /// <summary>A vector that is a column in the file.</summary>
    public static GgufShape Column { get; } = new(static shape => [shape[0], 1], static shape => [shape[0]]);

    /// <summary>A router, whose matrix is a vector in the file if it has one row.</summary>
    public static GgufShape Router { get; } = new(static shape => shape is [1, _] ? [shape[1]] : shape, static shape => shape is [_] ? [1, shape[0]] : shape);

    /// <summary>A vector that is a matrix of several rows in the file.</summary>
    /// <param name="count">The number of rows.</param>
    public static GgufShape Groups(long count) => new(shape => [count, shape[0] / count], static shape => [shape[0] * shape[1]]);
}
