using System.Diagnostics;
using System.Globalization;

namespace OpenWeights.Tune.Torch;

/// <summary>Memory of this process.</summary>
public static class ProcessMemory
{
    /// <summary>The most physical memory that the process has held, in bytes.</summary>
    public static long Peak
    {
        get
        {
            // .NET reads the file of each thread as well, which takes longer than a small model's step.
            if (OperatingSystem.IsLinux())
            {
                foreach (var line in File.ReadLines("/proc/self/status"))
                {
                    if (line.StartsWith("VmHWM:", StringComparison.Ordinal) && line.EndsWith(" kB", StringComparison.Ordinal))
                    {
                        return long.Parse(line.AsSpan("VmHWM:".Length, line.Length - "VmHWM: kB".Length), NumberStyles.AllowLeadingWhite | NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture) << 10;
                    }
                }
            }

            using var process = Process.GetCurrentProcess();
            return process.PeakWorkingSet64;
        }
    }
}
