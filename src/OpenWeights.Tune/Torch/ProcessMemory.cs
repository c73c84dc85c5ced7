using System.Diagnostics;

namespace OpenWeights.Tune.Torch;

/// <summary>Memory of this process.</summary>
public static class ProcessMemory
{
    /// <summary>The most physical memory that the process has held, in bytes.</summary>
    public static long Peak
    {
        get
        {
            using var process = Process.GetCurrentProcess();
            return process.PeakWorkingSet64;
        }
    }
}
