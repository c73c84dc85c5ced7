using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Torch;

/// <summary>Memory of tensors on the CPU, and its sharing out among threads, for loops that read and write it once.</summary>
internal static unsafe class CpuMemory
{
    /// <summary>Elements of a part: large enough for a thread's while, small enough that threads end together.</summary>
    internal const int PartLength = 1 << 16;

    /// <summary>Whether a tensor's elements lie one after the other in memory that this process reaches.</summary>
    internal static bool Holds(Tensor tensor) => tensor.device_type == DeviceType.CPU && tensor.is_contiguous();

    /// <summary>The first element of a tensor that <see cref="Holds"/>; it stays where it is as long as the tensor lives.</summary>
    internal static void* Start(Tensor tensor)
    {
        if (tensor.numel() == 0)
        {
            return null;
        }

        // A span of a whole tensor ends at 2 GiB; one of its first element always does.
        using var scope = NewDisposeScope();
        return Unsafe.AsPointer(ref MemoryMarshal.GetReference(tensor.detach().view(-1).narrow(0, 0, 1).bytes));
    }

    /// <summary>Cuts arrays into parts and works on them with as many threads as torch uses. How they are cut depends on lengths alone.</summary>
    /// <param name="lengths">The length of each array.</param>
    /// <param name="work">Is given each part, on any thread; parts are numbered from 0.</param>
    internal static void ForParts(IReadOnlyList<long> lengths, Action<ArrayPart> work)
    {
        var parts = new List<ArrayPart>();
        for (var array = 0; array < lengths.Count; array++)
        {
            for (long start = 0; start < lengths[array]; start += PartLength)
            {
                parts.Add(new ArrayPart(parts.Count, array, start, (int)Math.Min(PartLength, lengths[array] - start)));
            }
        }

        var threads = Math.Max(1, get_num_threads());
        _ = Parallel.For(0, parts.Count, new ParallelOptions { MaxDegreeOfParallelism = threads }, i => work(parts[i]));
    }

    /// <summary>The number of parts that arrays are cut into.</summary>
    internal static int CountParts(IEnumerable<long> lengths) => (int)lengths.Sum(static l => (l + PartLength - 1) / PartLength);
}
