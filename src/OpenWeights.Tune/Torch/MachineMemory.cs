using System.Globalization;

namespace OpenWeights.Tune.Torch;

/// <summary>Memory of this machine.</summary>
public static class MachineMemory
{
    /// <summary>What programs may still take without swapping, in bytes; null where the system does not tell.</summary>
    public static long? Free
    {
        get
        {
            if (OperatingSystem.IsLinux())
            {
                return Line("MemAvailable:");
            }

            // .NET knows what was in use when it last collected garbage.
            GC.Collect(0, GCCollectionMode.Forced);
            var info = GC.GetGCMemoryInfo();
            return info.TotalAvailableMemoryBytes > 0 ? Math.Max(0, info.TotalAvailableMemoryBytes - info.MemoryLoadBytes) : null;
        }
    }

    /// <summary>All of the machine's memory, in bytes, whatever control groups say.</summary>
    public static long Total => (OperatingSystem.IsLinux() ? Line("MemTotal:") : null) ?? GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;

    private static long? Line(string key)
    {
        foreach (var line in File.ReadLines("/proc/meminfo"))
        {
            if (line.StartsWith(key, StringComparison.Ordinal) && long.TryParse(line.AsSpan(key.Length).Trim().TrimEnd(" kB"), NumberStyles.None, CultureInfo.InvariantCulture, out var kilobytes))
            {
                return kilobytes << 10;
            }
        }

        return null;
    }
}
