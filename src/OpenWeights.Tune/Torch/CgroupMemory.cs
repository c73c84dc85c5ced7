using System.Globalization;

namespace OpenWeights.Tune.Torch;

/// <summary>
/// Memory limit of a Linux control group, version 1 or 2. The system kills a process that exceeds it, however much memory the machine has.
/// </summary>
/// <param name="Limit">The most restrictive limit, in bytes.</param>
/// <param name="Free">Memory still available under it; file caches, which the system can reclaim, count as available.</param>
internal sealed record CgroupMemory(long Limit, long Free)
{
    private const string Mount = "/sys/fs/cgroup";
    private const string Membership = "/proc/self/cgroup";

    // Version 1 represents "no limit" as the largest number of whole pages.
    private const long NoLimit = 1L << 60;

    /// <summary>The limit of this process; null if there is none, or there are no control groups.</summary>
    public static CgroupMemory? Current => OperatingSystem.IsLinux() ? Read(Mount, Membership) : null;

    /// <summary>The limit of a process.</summary>
    /// <param name="mount">Mount point of the control groups.</param>
    /// <param name="membership">The file that lists the groups of the process.</param>
    internal static CgroupMemory? Read(string mount, string membership)
    {
        CgroupMemory? least = null;
        foreach (var line in Lines(membership))
        {
            // hierarchy:controllers:path
            if (line.Split(':', 3) is not [_, var controllers, var path])
            {
                continue;
            }

            var found = controllers.Length == 0 ? Walk(mount, path, "memory.max", "memory.current", "")
                : controllers.Split(',').Contains("memory") ? Walk(Path.Combine(mount, "memory"), path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
                : null;
            least = found is not null && (least is null || found.Free < least.Free) ? found : least;
        }

        return least;
    }

    // The limits of a group and its parents. In a container the path may be the host's, of which only the root is visible.
    private static CgroupMemory? Walk(string root, string path, string limitName, string usageName, string statPrefix)
    {
        CgroupMemory? least = null;
        for (var folder = path.Trim('/'); ; folder = Path.GetDirectoryName(folder) ?? "")
        {
            var at = Path.Combine(root, folder);
            if (Number(Path.Combine(at, limitName)) is { } limit and < NoLimit && Number(Path.Combine(at, usageName)) is { } usage)
            {
                var free = Math.Max(0, limit - Math.Max(0, usage - Caches(Path.Combine(at, "memory.stat"), statPrefix)));
                least = least is null || free < least.Free ? new CgroupMemory(limit, free) : least;
            }

            if (folder.Length == 0)
            {
                return least;
            }
        }
    }

    private static long Caches(string file, string prefix) => Lines(file).Select(static l => l.Split(' '))
        .Where(l => l.Length == 2 && (l[0] == prefix + "inactive_file" || l[0] == prefix + "active_file"))
        .Sum(static l => long.TryParse(l[1], NumberStyles.None, CultureInfo.InvariantCulture, out var bytes) ? bytes : 0);

    private static long? Number(string file) =>
        Lines(file) is [var line, ..] && long.TryParse(line.Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;

    private static string[] Lines(string file)
    {
        try
        {
            return File.Exists(file) ? File.ReadAllLines(file) : [];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }
}
