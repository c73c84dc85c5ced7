using System.Globalization;

namespace OpenWeights.Tune.Distributed;

/// <summary>What shows that this process works, even where it does not say how it gets on. Sums since its start.</summary>
/// <param name="Processor">Milliseconds of processors, without those of threads that only watch or wait.</param>
/// <param name="Bytes">Bytes that it has read and written, by files or by memory that files are mapped to.</param>
/// <param name="MachineWritten">Bytes that the machine has written to disks.</param>
/// <param name="WaitsForDisk">Whether one of its threads waits for a disk now.</param>
internal sealed record ProcessSigns(long Processor, long Bytes, long MachineWritten, bool WaitsForDisk)
{
    // A process that does nothing uses less than a hundredth of a core, and writes some lines.
    private const double LeastShare = 0.03;
    private const double LeastBytes = 2048;

    // To flush a large file to a disk moves bytes that were counted when they were written into memory.
    private const double LeastFlushed = 1 << 20;

    /// <summary>Whether the process has worked since an earlier look.</summary>
    /// <param name="before">What there was then.</param>
    /// <param name="milliseconds">How long ago that was.</param>
    internal bool ShowWork(ProcessSigns before, long milliseconds) =>
        milliseconds > 0
        && (Processor - before.Processor >= LeastShare * milliseconds
            || Bytes - before.Bytes >= LeastBytes * milliseconds / 1000
            || (WaitsForDisk && MachineWritten - before.MachineWritten >= LeastFlushed * milliseconds / 1000));
}

/// <summary>Reads the signs of this process, where the system is Linux.</summary>
internal sealed class ProcessSignsReader
{
    private const int MillisecondsPerTick = 10;
    private const int PageBytes = 4096;

    // Fields of /proc/self/task/N/stat after the name: the state, and from there.
    private const int MajorFaults = 9;
    private const int UserTime = 11;
    private const int SystemTime = 12;

    // MPI's thread and NCCL's look again and again whether a message has come; the others only watch.
    private static readonly string[] s_watching = ["mpi", "rank ", "nccl", "NCCL"];

    private readonly Dictionary<string, long> _threads = [];
    private long _processor;
    private long _readHere;

    /// <summary>The signs up to now; null where the system does not tell them.</summary>
    internal ProcessSigns? Read()
    {
        if (!OperatingSystem.IsLinux())
        {
            return null;
        }

        try
        {
            var (faults, waits) = (0L, false);
            foreach (var folder in Directory.EnumerateDirectories("/proc/self/task"))
            {
                if (ReadThread(folder) is var (name, fields))
                {
                    Count(folder, name, fields);
                    faults += Number(fields[MajorFaults]);
                    waits |= fields[0] == "D";
                }
            }

            var io = Lines(Text("/proc/self/io"), ':');
            var bytes = io["rchar"] + io["wchar"] + io["read_bytes"] + (faults * PageBytes) - _readHere;
            return new ProcessSigns(_processor, bytes, Lines(Text("/proc/vmstat"), ' ')["nr_written"] * PageBytes, waits);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or KeyNotFoundException or FormatException)
        {
            return null;
        }
    }

    // Threads end, and with them what they used; so what each has used more is added up.
    private void Count(string thread, string name, string[] fields)
    {
        var used = (Number(fields[UserTime]) + Number(fields[SystemTime])) * MillisecondsPerTick;
        var more = used - _threads.GetValueOrDefault(thread);
        _threads[thread] = used;
        if (!s_watching.Any(w => name.StartsWith(w, StringComparison.Ordinal)))
        {
            // Another thread may have got the number of one that ended.
            _processor += more < 0 ? used : more;
        }
    }

    private (string Name, string[] Fields)? ReadThread(string folder)
    {
        try
        {
            var text = Text($"{folder}/stat");
            var (open, close) = (text.IndexOf('(', StringComparison.Ordinal), text.LastIndexOf(')'));
            return (text[(open + 1)..close], text[(close + 2)..].Split(' '));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It has just ended.
            return null;
        }
    }

    private string Text(string path)
    {
        var text = File.ReadAllText(path);
        _readHere += text.Length;
        return text;
    }

    private static Dictionary<string, long> Lines(string text, char separator) => text.Split('\n', StringSplitOptions.RemoveEmptyEntries)
        .Select(line => line.Split(separator)).ToDictionary(static parts => parts[0], static parts => Number(parts[1]));

    private static long Number(string text) => long.Parse(text, NumberStyles.AllowLeadingWhite, CultureInfo.InvariantCulture);
}
