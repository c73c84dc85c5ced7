using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Distributed.Engines;

/// <summary>Loads a library whose own plugins look for its symbols in the whole process, which .NET's loader hides.</summary>
internal static partial class GlobalLibrary
{
    private const int Now = 2;
    private const int GlobalOnLinux = 0x100;
    private const int GlobalOnMac = 8;

    /// <summary>Loads a library by its name or path; null if it cannot be loaded.</summary>
    /// <param name="name">Name for the loader, or a path.</param>
    /// <param name="reason">Why it cannot be loaded.</param>
    internal static nint? Load(string name, out string reason)
    {
        reason = "";
        if (OperatingSystem.IsWindows())
        {
            return NativeLibrary.TryLoad(name, out var windows) ? windows : null;
        }

        var handle = dlopen(name, Now | (OperatingSystem.IsMacOS() ? GlobalOnMac : GlobalOnLinux));
        if (handle == 0)
        {
            reason = Marshal.PtrToStringUTF8(dlerror()) ?? "no reason is given";
            return null;
        }

        return handle;
    }

    /// <summary>Sets a variable for native code, which does not see what .NET sets.</summary>
    internal static void SetVariable(string name, string value)
    {
        Environment.SetEnvironmentVariable(name, value);
        if (!OperatingSystem.IsWindows())
        {
            _ = setenv(name, value, 1);
        }
    }

    // A part of libc since glibc 2.34, of which libdl is then a stub.
    [LibraryImport("libdl.so.2", EntryPoint = "dlopen", StringMarshalling = StringMarshalling.Utf8)]
    private static partial nint LinuxOpen(string name, int flags);

    [LibraryImport("libdl.so.2", EntryPoint = "dlerror")]
    private static partial nint LinuxError();

    [LibraryImport("libSystem", EntryPoint = "dlopen", StringMarshalling = StringMarshalling.Utf8)]
    private static partial nint MacOpen(string name, int flags);

    [LibraryImport("libSystem", EntryPoint = "dlerror")]
    private static partial nint MacError();

    private static nint dlopen(string name, int flags) => OperatingSystem.IsMacOS() ? MacOpen(name, flags) : LinuxOpen(name, flags);

    private static nint dlerror() => OperatingSystem.IsMacOS() ? MacError() : LinuxError();

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int setenv(string name, string value, int overwrite);
}
