using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>Memory layout of the rows of a tensor [batch, heads, tokens, head_dim], possibly a view.</summary>
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

    /// <summary>Whether a tensor's layout is supported.</summary>
    internal static bool Serves(Tensor states) => CpuKernel.ServesRows(states) && states.ndim == 4 && states.stride(3) == 1;

    /// <summary>Loads rows of a head, multiplied by a factor.</summary>
    /// <param name="head">The batch row and the head.</param>
    /// <param name="rows">First token and number of tokens.</param>
    /// <param name="width">Head dimension.</param>
    /// <param name="to">Destination, [rows, stride]; elements past head_dim are set to zero.</param>
    /// <param name="stride">Row stride, a multiple of <see cref="Lanes.Width"/> of at least head_dim.</param>
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

    /// <summary>Stores a row of a head, multiplied by a factor.</summary>
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
