using System.Runtime.Intrinsics.X86;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// What functions written in C# share: they work on the memory of CPU tensors, so they serve every supplier of torch and need no compiler.
/// Each has a composition of torch's operators beside it, for other devices and dtypes and as its test.
/// </summary>
internal static unsafe class CpuKernel
{
    // Work of fewer elements is done before another thread has woken up.
    private const long MinElements = 1 << 15;

    /// <summary>Whether these functions are used where they can be; the tests compare with and without.</summary>
    internal static bool Enabled { get; set; } = true;

    /// <summary>Whether to work on sixteen numbers at once. .NET calls some processors' wide vectors slow which BLAS uses all the time.</summary>
    internal static bool IsWide { get; set; } = Avx512F.IsSupported && Avx512BW.IsSupported;

    /// <summary>Whether a tensor's memory can be worked on as it lies: float32 or bfloat16 in one piece on the CPU.</summary>
    internal static bool Serves(Tensor tensor) => ServesRows(tensor) && tensor.is_contiguous();

    /// <summary>Whether all of some tensors can be worked on, and are of one dtype.</summary>
    internal static bool Serves(Tensor first, Tensor second) => Serves(first) && Serves(second) && first.dtype == second.dtype;

    /// <summary>Whether a tensor that may be a view can be worked on a row at a time.</summary>
    internal static bool ServesRows(Tensor tensor) =>
        Enabled && tensor.device.type == TorchSharp.DeviceType.CPU && tensor.dtype is ScalarType.Float32 or ScalarType.BFloat16;

    /// <summary>How far apart the rows of a tensor lie, in elements; null where they do not lie evenly or their elements are apart.</summary>
    internal static long? RowStride(Tensor tensor)
    {
        var (shape, strides) = (tensor.shape, tensor.stride());
        if (shape.Length < 2 || (strides[^1] != 1 && shape[^1] != 1))
        {
            return null;
        }

        var (stride, rows) = (strides[^2], shape[^2]);
        for (var i = shape.Length - 3; i >= 0; i--)
        {
            if (shape[i] != 1 && strides[i] != stride * rows)
            {
                return null;
            }

            rows *= shape[i];
        }

        return stride;
    }

    /// <summary>Runs some work over rows, split among as many threads as torch uses.</summary>
    /// <param name="rows">The number of rows.</param>
    /// <param name="elements">The elements of a row.</param>
    /// <param name="work">What is done with the rows from a first to before a last.</param>
    internal static void Run(long rows, long elements, Action<long, long> work)
    {
        var parts = Parts(rows, elements);
        RunParts(parts, part => work(rows * part / parts, rows * (part + 1) / parts));
    }

    /// <summary>Runs some work once for each of some parts.</summary>
    internal static void RunParts(int parts, Action<int> work)
    {
        if (parts == 1)
        {
            work(0);
        }
        else
        {
            Parallel.For(0, parts, work);
        }
    }

    /// <summary>Into how many parts some rows are split.</summary>
    internal static int Parts(long rows, long elements) => (int)Math.Clamp(Math.Min(rows, rows * elements / MinElements), 1, get_num_threads());

    /// <summary>Where the elements of a CPU tensor, which may be a view, begin. The tensor must stay referenced while they are worked on.</summary>
    internal static void* Pointer(Tensor tensor)
    {
        if (tensor.numel() == 0)
        {
            return null;
        }

        using var first = tensor.as_strided([1], [1], tensor.storage_offset());
        fixed (byte* start = first.bytes)
        {
            // Native memory, which no collection moves.
            return start;
        }
    }
}

/// <summary>A part of one of several arrays of different lengths.</summary>
/// <param name="Array">Which array it is of.</param>
/// <param name="Start">Its first element.</param>
/// <param name="Count">Its number of elements.</param>
internal readonly record struct ArrayPart(int Array, long Start, long Count)
{
    // Large enough for a thread's while, small enough that threads end together.
    internal const int Length = 1 << 16;

    /// <summary>Cuts arrays into parts: how depends on their lengths alone, so that sums of parts are the same for any number of threads.</summary>
    internal static ArrayPart[] Of(IEnumerable<long> lengths) =>
    [
        .. lengths.SelectMany(static (length, array) => Enumerable.Range(0, (int)((length + Length - 1) / Length))
            .Select(i => new ArrayPart(array, (long)i * Length, Math.Min(Length, length - ((long)i * Length))))),
    ];

    /// <summary>Runs some work for each part, with as many threads as torch uses.</summary>
    internal static void Run(ArrayPart[] parts, Action<int> work) =>
        Parallel.For(0, parts.Length, new ParallelOptions { MaxDegreeOfParallelism = Math.Max(1, get_num_threads()) }, work);
}
