using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Kernels;

/// <summary>What one thread's parts of the kernels that compute recurrences in chunks have in common: buffers, and operations on them.</summary>
internal abstract unsafe class ChunkLane<TVectors, TVector> : IDisposable
    where TVectors : struct, IVectors<TVector>
    where TVector : struct
{
    private const nuint Alignment = 64;

    private float* _scratch;
    private float* _next;

    /// <inheritdoc/>
    public virtual void Dispose() => NativeMemory.AlignedFree(_scratch);

    /// <summary>Allocates memory for all buffers.</summary>
    /// <param name="numbers">The sum of what <see cref="Take"/> will be asked for.</param>
    protected void Reserve(nint numbers) => _next = _scratch = (float*)NativeMemory.AlignedAlloc((nuint)numbers * sizeof(float), Alignment);

    /// <summary>The next buffer.</summary>
    protected float* Take(nint numbers)
    {
        var taken = _next;
        _next += numbers;
        return taken;
    }

    /// <summary>A width, rounded up to whole vectors.</summary>
    protected static nint Whole(nint width) => (width + TVectors.Width - 1) / TVectors.Width * TVectors.Width;

    /// <summary>target (+)= left x right.</summary>
    protected static void Product(TileProduct.Factor left, float* right, nint stride, TileProduct.Target target, nint rows, nint columns, nint depth) =>
        TileProduct.Run<TVectors, TVector>(left, right, stride, target, rows, columns, depth);

    /// <summary>[rows, columns] to [columns, length], with zeros behind the rows.</summary>
    protected static void Transpose(float* from, nint stride, float* to, nint length, nint rows, nint columns)
    {
        for (nint column = 0; column < columns; column++)
        {
            var target = to + (column * length);
            for (nint row = 0; row < rows; row++)
            {
                target[row] = from[(row * stride) + column];
            }

            Clear(target + rows, length - rows);
        }
    }

    /// <summary>Copies rows, with zeros behind their width where the stride is larger.</summary>
    protected static void Copy(float* from, nint fromStride, float* to, nint toStride, nint rows, nint width)
    {
        for (nint row = 0; row < rows; row++)
        {
            new ReadOnlySpan<float>(from + (row * fromStride), (int)width).CopyTo(new Span<float>(to + (row * toStride), (int)width));
            Clear(to + (row * toStride) + width, toStride - width);
        }
    }

    /// <summary>Sets numbers to zero.</summary>
    protected static void Clear(float* numbers, nint count) => new Span<float>(numbers, (int)count).Clear();

    /// <summary>The sum of products; the count is a whole number of vectors.</summary>
    protected static float Dot(float* left, float* right, nint count)
    {
        var sum = TVectors.Zero;
        for (nint i = 0; i < count; i += TVectors.Width)
        {
            sum = TVectors.MultiplyAdd(TVectors.Load(left + i), TVectors.Load(right + i), sum);
        }

        return TVectors.Sum(sum);
    }

    /// <summary>to = left · right; the count is a whole number of vectors.</summary>
    protected static void Multiply(float* left, float* right, float* to, nint count)
    {
        for (nint i = 0; i < count; i += TVectors.Width)
        {
            TVectors.Store(to + i, TVectors.Multiply(TVectors.Load(left + i), TVectors.Load(right + i)));
        }
    }

    /// <summary>to += left · right; the count is a whole number of vectors.</summary>
    protected static void AddProduct(float* left, float* right, float* to, nint count)
    {
        for (nint i = 0; i < count; i += TVectors.Width)
        {
            TVectors.Store(to + i, TVectors.MultiplyAdd(TVectors.Load(left + i), TVectors.Load(right + i), TVectors.Load(to + i)));
        }
    }

    /// <summary>to += from; the count is a whole number of vectors.</summary>
    protected static void Add(float* from, float* to, nint count)
    {
        for (nint i = 0; i < count; i += TVectors.Width)
        {
            TVectors.Store(to + i, TVectors.Add(TVectors.Load(to + i), TVectors.Load(from + i)));
        }
    }

    /// <summary>to -= from; the count is a whole number of vectors.</summary>
    protected static void Subtract(float* from, float* to, nint count)
    {
        for (nint i = 0; i < count; i += TVectors.Width)
        {
            TVectors.Store(to + i, TVectors.Subtract(TVectors.Load(to + i), TVectors.Load(from + i)));
        }
    }

    /// <summary>Multiplies each row by a factor.</summary>
    protected static void ScaleRows(float* states, nint stride, float* factors, nint rows)
    {
        for (nint row = 0; row < rows; row++)
        {
            VectorFunctions.Scale<TVectors, TVector>(states + (row * stride), stride, factors[row]);
        }
    }
}
