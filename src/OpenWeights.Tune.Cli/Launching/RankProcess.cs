using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Cli.Launching;

/// <summary>
/// A process that runs a rank, or mpirun. On Linux it is in a session of its own, so that Ctrl-C comes to it once, from here; and it ends
/// where this process is killed.
/// </summary>
internal sealed partial class RankProcess : IDisposable
{
    private readonly Process _process;
    private readonly Task _output;
    private readonly Task _error;

    internal RankProcess(IReadOnlyList<string> command, IEnumerable<(string Name, string Value)> variables, Action<string, bool> line)
    {
        string[] all = [.. Wrapper(), .. command];
        var start = new ProcessStartInfo(all[0]) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        all.Skip(1).ToList().ForEach(start.ArgumentList.Add);
        foreach (var (name, value) in variables)
        {
            start.Environment[name] = value;
        }

        _process = Process.Start(start)!;
        _process.StandardInput.Close();
        _output = Task.Run(() => Read(_process.StandardOutput, text => line(text, false)));
        _error = Task.Run(() => Read(_process.StandardError, text => line(text, true)));
    }

    /// <summary>Its exit code, 128 and the signal's number if a signal ended it; null while it runs.</summary>
    internal int? ExitCode => _process.HasExited ? _process.ExitCode : null;

    /// <summary>Waits for the end of what it prints; a process that it left behind does not hold this up.</summary>
    internal void ReadToEnd() => _ = Task.WaitAll([_output, _error], TimeSpan.FromSeconds(2));

    /// <summary>Sends a signal to it, or to those of its descendants that run this program.</summary>
    /// <param name="signal">The signal's number.</param>
    /// <param name="toRanks">Whether it is mpirun, and the ranks that it started are meant.</param>
    internal void Signal(int signal, bool toRanks)
    {
        if (OperatingSystem.IsWindows())
        {
            _process.Kill(entireProcessTree: true);
            return;
        }

        var ranks = toRanks ? Descendants(_process.Id).Where(IsOwt).ToList() : [];
        foreach (var id in ranks.Count > 0 ? ranks : [_process.Id])
        {
            _ = kill(id, signal);
        }
    }

    /// <summary>Ends it and all that it started.</summary>
    internal void Kill()
    {
        try
        {
            _process.Kill(entireProcessTree: true);
        }
        catch (InvalidOperationException)
        {
            // It has just ended.
        }
    }

    public void Dispose() => _process.Dispose();

    private static IEnumerable<string> Wrapper()
    {
        const string setpriv = "/usr/bin/setpriv";
        const string setsid = "/usr/bin/setsid";
        return [.. File.Exists(setpriv) ? [setpriv, "--pdeathsig", "TERM", "--"] : Array.Empty<string>(), .. File.Exists(setsid) ? new[] { setsid } : []];
    }

    private static void Read(StreamReader reader, Action<string> line)
    {
        while (reader.ReadLine() is { } text)
        {
            line(text);
        }
    }

    private static IEnumerable<int> Descendants(int process)
    {
        var children = new List<(int Id, int Parent)>();
        foreach (var folder in Directory.Exists("/proc") ? Directory.EnumerateDirectories("/proc") : [])
        {
            if (int.TryParse(Path.GetFileName(folder), CultureInfo.InvariantCulture, out var id) && Text($"{folder}/stat") is { } stat
                && stat[(stat.LastIndexOf(')') + 1)..].Split(' ', StringSplitOptions.RemoveEmptyEntries) is [_, var parent, ..])
            {
                children.Add((id, int.Parse(parent, CultureInfo.InvariantCulture)));
            }
        }

        var parents = children.ToLookup(static c => c.Parent, static c => c.Id);
        var open = new Queue<int>(parents[process]);
        while (open.TryDequeue(out var next))
        {
            yield return next;
            parents[next].ToList().ForEach(open.Enqueue);
        }
    }

    private static bool IsOwt(int process) => Text($"/proc/{process}/cmdline")?.Split('\0') is { } words && OwnProgram.Command.SequenceEqual(words.Take(OwnProgram.Command.Count));

    private static string? Text(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    [LibraryImport("libc")]
    private static partial int kill(int process, int signal);
}
