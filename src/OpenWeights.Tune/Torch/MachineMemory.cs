using System.Globalization;

namespace OpenWeights.Tune.Torch;

/// <summary>Memory of this machine.</summary>
internal static class MachineMemory
{
    /// <summary>Available memory without swapping, in bytes; null if unknown.</summary>
    public static long? Free
    {
        get
        {
            if (OperatingSystem.IsLinux())
            {
                return Line("MemAvailable:");
            }

            // .NET knows the memory in use at its last garbage collection.
            GC.Collect(0, GCCollectionMode.Forced);
            var info = GC.GetGCMemoryInfo();
            return info.TotalAvailableMemoryBytes > 0 ? Math.Max(0, info.TotalAvailableMemoryBytes - info.MemoryLoadBytes) : null;
        }
    }

    /// <summary>Total memory of the machine, in bytes, regardless of control groups.</summary>
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
