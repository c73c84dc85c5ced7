using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>Where the rows of [batch, heads, tokens, head_dim] lie, a view or not.</summary>
internal readonly unsafe struct HeadStates
{
    private readonly nint _start;
    private readonly long _batch;
    private readonly long _head;
    private readonly long _token;
    private readonly bool _half;

    internal HeadStates(Tensor states)
    {
        var strides = states.stride();
        (_start, _batch, _head, _token) = ((nint)CpuKernel.Pointer(states), strides[0], strides[1], strides[2]);
        _half = states.dtype == ScalarType.BFloat16;
    }

    private HeadStates(Tensor rows, long stride) => (_start, _token, _half) = ((nint)CpuKernel.Pointer(rows), stride, rows.dtype == ScalarType.BFloat16);

    /// <summary>A matrix as the rows of one head.</summary>
    internal static HeadStates OfRows(Tensor matrix) => new(matrix, matrix.stride(0));

    /// <summary>Whether states can be read and written so.</summary>
    internal static bool Serves(Tensor states) => CpuKernel.ServesRows(states) && states.ndim == 4 && states.stride(3) == 1;

    /// <summary>Reads rows of a head, each times a factor.</summary>
    /// <param name="head">The row of the batch, and the head.</param>
    /// <param name="rows">The first token, and how many.</param>
    /// <param name="width">head_dim.</param>
    /// <param name="to">[rows, stride], of which what lies behind head_dim becomes zero.</param>
    /// <param name="stride">A multiple of <see cref="Lanes.Width"/>, head_dim or more.</param>
    /// <param name="factor">The factor.</param>
    internal void Read((long Batch, long Head) head, (long First, nint Count) rows, nint width, float* to, nint stride, float factor = 1)
    {
        for (nint row = 0; row < rows.Count; row++)
        {
            var offset = Offset(head, rows.First + row);
            if (_half)
            {
                Read<BFloat16Elements>(Lanes.Row<BFloat16Elements>(_start, offset), width, to + (row * stride), stride, factor);
            }
            else
            {
                Read<Float32Elements>(Lanes.Row<Float32Elements>(_start, offset), width, to + (row * stride), stride, factor);
            }
        }
    }

    /// <summary>Writes a row of a head, times a factor.</summary>
    internal void Write((long Batch, long Head) head, long token, float* from, nint width, float factor)
    {
        var offset = Offset(head, token);
        if (_half)
        {
            Write<BFloat16Elements>(Lanes.Row<BFloat16Elements>(_start, offset), from, width, factor);
        }
        else
        {
            Write<Float32Elements>(Lanes.Row<Float32Elements>(_start, offset), from, width, factor);
        }
    }

    private static void Read<T>(void* from, nint width, float* to, nint stride, float factor)
        where T : struct, IElements
    {
        nint i = 0;
        for (; i < width; i += Lanes.Width)
        {
            Float32Elements.Store(to, i, Lanes.Read<T>(from, i, width) * factor);
        }

        for (; i < stride; i++)
        {
            to[i] = 0;
        }
    }

    private static void Write<T>(void* to, float* from, nint width, float factor)
        where T : struct, IElements
    {
        for (nint i = 0; i < width; i += Lanes.Width)
        {
            Lanes.Write<T>(to, i, width, Float32Elements.Load(from, i) * factor);
        }
    }

    private long Offset((long Batch, long Head) head, long token) => (head.Batch * _batch) + (head.Head * _head) + (token * _token);
}
