using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Torch.Memory;

/// <summary>Memory pages on Linux, huge pages if available.</summary>
internal sealed unsafe partial class LinuxPages : IPageSource
{
    internal const int None = 0;
    internal const int Read = 1;
    internal const int Write = 2;

    private const int PrivateAnonymousNoReserve = 0x4022;
    private const int DontNeed = 4;
    private const int UseHugePages = 14;

    public long Reserve(long size)
    {
        var start = mmap(0, (nuint)size, None, PrivateAnonymousNoReserve, -1, 0);
        if (start == -1)
        {
            return 0;
        }

        _ = madvise(start, (nuint)size, UseHugePages);
        return start;
    }

    public bool Open(long start, long size) => Protect(start, size, Read | Write);

    public bool GiveBack(long start, long size) => Release(start, size);

    /// <summary>Releases pages: private memory reads as zero afterwards, mapped files are read again.</summary>
    internal static bool Release(long start, long size) => madvise((nint)start, (nuint)size, DontNeed) == 0;

    /// <summary>Sets the protection of memory.</summary>
    internal static bool Protect(long start, long size, int access) => mprotect((nint)start, (nuint)size, access) == 0;

    [LibraryImport("libc")]
    private static partial nint mmap(nint address, nuint length, int protection, int flags, int file, long offset);

    [LibraryImport("libc")]
    private static partial int mprotect(nint address, nuint length, int protection);

    [LibraryImport("libc")]
    private static partial int madvise(nint address, nuint length, int advice);
}
