using System.Runtime.Intrinsics.X86;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Common parts of the kernels written in C#: they work directly on the memory of CPU tensors, so they work with every supplier of torch
/// and need no compiler. Each has an equivalent composition of torch operators, for other devices and dtypes and as its test reference.
/// </summary>
internal static unsafe class CpuKernel
{
    // Less work is done before another thread has woken up.
    private const long MinElements = 1 << 15;

    /// <summary>Whether the kernels are used where supported; tests compare with and without.</summary>
    internal static bool Enabled { get; set; } = true;

    /// <summary>
    /// Whether to use vectors of sixteen floats. .NET reports some processors' 512-bit vectors as slow although BLAS uses them throughout.
    /// </summary>
    internal static bool IsWide { get; set; } = Avx512F.IsSupported && Avx512BW.IsSupported;

    /// <summary>Whether to use the instructions that look numbers up in tables. Without them codes are looked up one by one.</summary>
    internal static bool LooksUp { get; set; } = Avx2.IsSupported;

    /// <summary>Whether a tensor's memory can be used directly: contiguous float32 or bfloat16 on the CPU.</summary>
    internal static bool Serves(Tensor tensor) => ServesRows(tensor) && tensor.is_contiguous();

    /// <summary>Whether all tensors are supported and have the same dtype.</summary>
    internal static bool Serves(Tensor first, Tensor second) => Serves(first) && Serves(second) && first.dtype == second.dtype;

    /// <summary>Whether a tensor, possibly a view, can be processed row by row.</summary>
    internal static bool ServesRows(Tensor tensor) =>
        Enabled && tensor.device.type == TorchSharp.DeviceType.CPU && tensor.dtype is ScalarType.Float32 or ScalarType.BFloat16;

    /// <summary>Processes rows in parallel, with as many threads as torch uses.</summary>
    /// <param name="rows">Number of rows.</param>
    /// <param name="elements">Number of elements per row.</param>
    /// <param name="work">Processes a range of rows: first, and end (exclusive).</param>
    internal static void Run(long rows, long elements, Action<long, long> work)
    {
        var parts = Parts(rows, elements);
        RunParts(parts, part => work(rows * part / parts, rows * (part + 1) / parts));
    }

    /// <summary>Processes numbered parts in parallel.</summary>
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

    /// <summary>Number of parts that rows are split into.</summary>
    internal static int Parts(long rows, long elements) => (int)Math.Clamp(Math.Min(rows, rows * elements / MinElements), 1, get_num_threads());

    /// <summary>
    /// Address of the first element of a CPU tensor, possibly a view. The tensor must stay referenced while the address is used.
    /// </summary>
    internal static void* Pointer(Tensor tensor)
    {
        if (tensor.numel() == 0)
        {
            return null;
        }

        using var first = tensor.as_strided([1], [1], tensor.storage_offset());
        fixed (byte* start = first.bytes)
        {
            // Native memory, which garbage collections do not move.
            return start;
        }
    }
}

/// <summary>A part of one of several arrays of different lengths.</summary>
/// <param name="Array">Index of the array.</param>
/// <param name="Start">First element.</param>
/// <param name="Count">Number of elements.</param>
internal readonly record struct ArrayPart(int Array, long Start, long Count)
{
    // Large enough to be worth a thread's time, small enough that threads finish at about the same time.
    internal const int Length = 1 << 16;

    /// <summary>
    /// Splits arrays into parts. The split depends only on the lengths, so that sums over parts are the same for any number of threads.
    /// </summary>
    internal static ArrayPart[] Of(IEnumerable<long> lengths) =>
    [
        .. lengths.SelectMany(static (length, array) => Enumerable.Range(0, (int)((length + Length - 1) / Length))
            .Select(i => new ArrayPart(array, (long)i * Length, Math.Min(Length, length - ((long)i * Length))))),
    ];

    /// <summary>Processes parts in parallel, with as many threads as torch uses.</summary>
    internal static void Run(ArrayPart[] parts, Action<int> work) =>
        Parallel.For(0, parts.Length, new ParallelOptions { MaxDegreeOfParallelism = Math.Max(1, get_num_threads()) }, work);
}
