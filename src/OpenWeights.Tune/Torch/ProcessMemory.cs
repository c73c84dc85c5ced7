using System.Diagnostics;
using System.Globalization;

namespace OpenWeights.Tune.Torch;

/// <summary>Memory of this process.</summary>
internal static class ProcessMemory
{
    /// <summary>Peak physical memory of the process, in bytes.</summary>
    public static long Peak
    {
        get
        {
            // .NET also reads a file per thread, which takes longer than a small model's step.
            if (OperatingSystem.IsLinux() && Line("VmHWM:") is { } peak)
            {
                return peak;
            }

            using var process = Process.GetCurrentProcess();
            return process.PeakWorkingSet64;
        }
    }

    /// <summary>Private physical memory of the process, without mapped files, in bytes.</summary>
    public static long Current => (OperatingSystem.IsLinux() ? Line("RssAnon:") : null) ?? Environment.WorkingSet;

    private static long? Line(string key)
    {
        foreach (var line in File.ReadLines("/proc/self/status"))
        {
            if (line.StartsWith(key, StringComparison.Ordinal) && line.EndsWith(" kB", StringComparison.Ordinal))
            {
                return long.Parse(line.AsSpan(key.Length, line.Length - key.Length - 3), NumberStyles.AllowLeadingWhite | NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture) << 10;
            }
        }

        return null;
    }
}
