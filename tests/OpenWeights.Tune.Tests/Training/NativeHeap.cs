using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>What is in use of the C library's heap, where TorchSharp's package has all small tensors, and what libtorch keeps about every one.</summary>
internal static partial class NativeHeap
{
    /// <summary>Whether the C library tells: GNU's since 2.33.</summary>
    internal static bool CanTell { get; } =
        OperatingSystem.IsLinux() && NativeLibrary.TryLoad("libc.so.6", out var libc) && NativeLibrary.TryGetExport(libc, "mallinfo2", out _);

    /// <summary>The bytes in use, of all threads' arenas and of blocks with pages of their own, when finalizers have freed theirs; 0 where nobody tells.</summary>
    internal static long InUse
    {
        get
        {
            if (!CanTell)
            {
                return 0;
            }

            GC.Collect();
            GC.WaitForPendingFinalizers();
            var info = Ask();
            return (long)(info.InUse + info.Mapped);
        }
    }

    [LibraryImport("libc.so.6", EntryPoint = "mallinfo2")]
    private static partial Information Ask();

    // struct mallinfo2 of malloc.h.
    [StructLayout(LayoutKind.Sequential)]
    private struct Information
    {
        internal nuint Arena;
        internal nuint FreeChunks;
        internal nuint FastBins;
        internal nuint MappedBlocks;
        internal nuint Mapped;
        internal nuint Unused;
        internal nuint FreeFastBins;
        internal nuint InUse;
        internal nuint Free;
        internal nuint Releasable;
    }
}
