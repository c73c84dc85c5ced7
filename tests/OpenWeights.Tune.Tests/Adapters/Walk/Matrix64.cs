namespace OpenWeights.Tune.Tests.Adapters.Walk;

/// <summary>Matrices in float64, in plain loops.</summary>
internal sealed class Matrix64(int rows, int columns)
{
    internal Matrix64(int rows, int columns, Func<int, int, double> value)
        : this(rows, columns)
    {
        for (var i = 0; i < rows; i++)
        {
            for (var j = 0; j < columns; j++)
            {
                this[i, j] = value(i, j);
            }
        }
    }

    internal Matrix64(long[] shape, double[] values)
        : this((int)shape[0], shape.Length == 1 ? 1 : (int)shape[1], (i, j) => values[(i * (shape.Length == 1 ? 1 : (int)shape[1])) + j])
    {
    }

    internal int Rows => rows;

    internal int Columns => columns;

    internal double[] Values { get; } = new double[rows * columns];

    internal double this[int row, int column]
    {
        get => Values[(row * columns) + column];
        set => Values[(row * columns) + column] = value;
    }

    internal Matrix64 Turned => new(columns, rows, (i, j) => this[j, i]);

    internal static Matrix64 Identity(int size) => new(size, size, static (i, j) => i == j ? 1 : 0);

    public static Matrix64 operator +(Matrix64 a, Matrix64 b) => new(a.Rows, a.Columns, (i, j) => a[i, j] + b[i, j]);

    public static Matrix64 operator -(Matrix64 a, Matrix64 b) => new(a.Rows, a.Columns, (i, j) => a[i, j] - b[i, j]);

    public static Matrix64 operator *(double factor, Matrix64 a) => new(a.Rows, a.Columns, (i, j) => factor * a[i, j]);

    public static Matrix64 operator *(Matrix64 a, Matrix64 b)
    {
        Assert(a.Columns == b.Rows);
        return new Matrix64(a.Rows, b.Columns, (i, j) =>
        {
            var sum = 0.0;
            for (var k = 0; k < a.Columns; k++)
            {
                sum += a[i, k] * b[k, j];
            }

            return sum;
        });
    }

    /// <summary>Each element times that of another matrix.</summary>
    internal Matrix64 Each(Matrix64 other) => new(rows, columns, (i, j) => this[i, j] * other[i, j]);

    internal double RowNorm(int row) => Math.Sqrt(Enumerable.Range(0, columns).Sum(j => this[row, j] * this[row, j]));

    internal double ColumnNorm(int column) => Math.Sqrt(Enumerable.Range(0, rows).Sum(i => this[i, column] * this[i, column]));

    /// <summary>The inverse, by Gauss and Jordan with the largest pivots.</summary>
    internal Matrix64 Inverse()
    {
        var (left, right) = (1.0 * this, Identity(rows));
        for (var k = 0; k < rows; k++)
        {
            var pivot = Enumerable.Range(k, rows - k).MaxBy(i => Math.Abs(left[i, k]));
            for (var j = 0; j < rows; j++)
            {
                (left[k, j], left[pivot, j]) = (left[pivot, j], left[k, j]);
                (right[k, j], right[pivot, j]) = (right[pivot, j], right[k, j]);
            }

            var scale = left[k, k];
            for (var j = 0; j < rows; j++)
            {
                left[k, j] /= scale;
                right[k, j] /= scale;
            }

            for (var i = 0; i < rows; i++)
            {
                var factor = i == k ? 0 : left[i, k];
                for (var j = 0; j < rows; j++)
                {
                    left[i, j] -= factor * left[k, j];
                    right[i, j] -= factor * right[k, j];
                }
            }
        }

        return right;
    }

    private static void Assert(bool holds)
    {
        if (!holds)
        {
            throw new InvalidOperationException("matrices of sizes that do not go together");
        }
    }
}
