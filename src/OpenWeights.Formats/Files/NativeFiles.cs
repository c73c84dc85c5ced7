using System.Runtime.InteropServices;
using System.Runtime.Versioning;

namespace OpenWeights.Formats.Files;

/// <summary>The few calls of the system that .NET has no member for.</summary>
internal static partial class NativeFiles
{
    private const int InvalidArgument = 22;
    private const int ReadOnly = 0;
    private const int CurrentFolder = -100;
    private const uint Exchange = 2;

    /// <summary>
    /// Makes a folder's entries durable: a rename survives a power cut only once the folder itself is on the disk (fsync(2)).
    /// Windows has no such call and journals its renames.
    /// </summary>
    /// <exception cref="IOException">The disk reported an error.</exception>
    public static void SyncFolder(string folder)
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        var descriptor = Open(folder, ReadOnly);
        if (descriptor < 0)
        {
            // A folder that may be written but not listed cannot be opened; the rename itself has happened.
            return;
        }

        var failed = Sync(descriptor) != 0;
        var error = Marshal.GetLastPInvokeError();
        _ = Close(descriptor);

        // Some network file systems cannot sync a folder and answer "invalid argument".
        if (failed && error != InvalidArgument)
        {
            throw new IOException($"the folder {folder} could not be flushed to the disk: {Marshal.GetPInvokeErrorMessage(error)}");
        }
    }

    /// <summary>Lets two existing paths of one file system trade places in one step; false where the system or file system
    /// cannot.</summary>
    public static bool TryExchange(string first, string second)
    {
        try
        {
            return OperatingSystem.IsLinux() ? RenameAt2(CurrentFolder, first, CurrentFolder, second, Exchange) == 0
                : OperatingSystem.IsMacOS() && RenameX(first, second, Exchange) == 0;
        }
        catch (EntryPointNotFoundException)
        {
            return false;
        }
    }

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    [UnsupportedOSPlatform("windows")]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    [UnsupportedOSPlatform("windows")]
    private static partial int Sync(int descriptor);

    [LibraryImport("libc", EntryPoint = "close")]
    [UnsupportedOSPlatform("windows")]
    private static partial int Close(int descriptor);

    [LibraryImport("libc", EntryPoint = "renameat2", StringMarshalling = StringMarshalling.Utf8)]
    [SupportedOSPlatform("linux")]
    private static partial int RenameAt2(int firstFolder, string first, int secondFolder, string second, uint flags);

    [LibraryImport("libc", EntryPoint = "renamex_np", StringMarshalling = StringMarshalling.Utf8)]
    [SupportedOSPlatform("macos")]
    private static partial int RenameX(string first, string second, uint flags);
}
