using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json.Nodes;
using NUnit.Framework;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>The program itself, as a process of its own.</summary>
internal sealed partial class Owt
{
    private const int Interrupt = 2;
    private const int Terminate = 15;

    // What the program keeps for its user, it keeps for the tests here.
    private static readonly string s_cache = Path.Combine(AppContext.BaseDirectory, "cache");

    private readonly StringBuilder _output = new();
    private readonly StringBuilder _error = new();
    private readonly Process _process;

    // A shell that runs the tests behind itself lets them ignore SIGINT, and so would the program, as after nohup.
    static Owt()
    {
        if (OperatingSystem.IsLinux() && (IgnoredSignals() & (1UL << (Interrupt - 1))) != 0)
        {
            _ = signal(Interrupt, 0);
        }
    }

    private Owt(string folder, IEnumerable<string> arguments, string? shell = null)
    {
        var start = new ProcessStartInfo(shell is null ? "dotnet" : "sh") { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["XDG_CACHE_HOME"] = s_cache;
        if (shell is not null)
        {
            // "$@" in the shell's line is the program with its arguments.
            new[] { "-c", shell, "sh", "dotnet" }.ToList().ForEach(start.ArgumentList.Add);
        }

        start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "owt.dll"));
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, e) => Add(_output, e.Data);
        _process.ErrorDataReceived += (_, e) => Add(_error, e.Data);
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    internal int Id => _process.Id;

    internal string Output => Text(_output);

    internal string Error => Text(_error);

    internal IReadOnlyList<JsonObject> Json => [.. Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(static l => JsonNode.Parse(l)!.AsObject())];

    internal static Owt Start(string folder, params string[] arguments) => new(folder, arguments);

    internal static Owt StartInShell(string folder, string shell, params string[] arguments) => new(folder, arguments, shell);

    /// <summary>Runs the program to its end and checks its exit code.</summary>
    internal static Owt Run(string folder, int expectedExitCode, params string[] arguments)
    {
        var owt = new Owt(folder, arguments);
        Assert.That(owt.WaitForExit(), Is.EqualTo(expectedExitCode), $"owt {string.Join(' ', arguments)}\n{owt.Output}\n{owt.Error}");
        return owt;
    }

    /// <summary>Runs the program to its end from a shell that first does something else, such as setting a limit.</summary>
    internal static Owt RunInShell(string folder, string shell, int expectedExitCode, params string[] arguments)
    {
        var owt = new Owt(folder, arguments, shell);
        Assert.That(owt.WaitForExit(), Is.EqualTo(expectedExitCode), $"{owt.Output}\n{owt.Error}");
        return owt;
    }

    internal int WaitForExit()
    {
        Assert.That(_process.WaitForExit(TimeSpan.FromMinutes(3)), $"the program came to no end\n{Error}");
        _process.WaitForExit();
        return _process.ExitCode;
    }

    /// <summary>Waits until a line of stderr contains a text.</summary>
    internal void WaitForError(string text)
    {
        var watch = Stopwatch.StartNew();
        while (!Error.Contains(text, StringComparison.Ordinal))
        {
            Assert.That(watch.Elapsed, Is.LessThan(TimeSpan.FromMinutes(2)), $"'{text}' did not come\n{Error}");
            Assert.That(_process.HasExited, Is.False, $"the program ended before '{text}' came\n{Error}");
            Thread.Sleep(5);
        }
    }

    /// <summary>Waits until a line of stderr contains a text, or the program has ended.</summary>
    internal void WaitForEnd(string text)
    {
        for (var watch = Stopwatch.StartNew(); !_process.HasExited && !Error.Contains(text, StringComparison.Ordinal);)
        {
            Assert.That(watch.Elapsed, Is.LessThan(TimeSpan.FromMinutes(2)), $"'{text}' did not come\n{Error}");
            Thread.Sleep(5);
        }
    }

    internal void Kill() => _process.Kill();

    // The system's own call: on a busy machine a run of a second is over before another program has begun.
    internal void Signal(string name) => Assert.That(TrySignal(name), Is.True, $"the program has ended\n{Error}");

    /// <summary>Sends a signal, where the program has not ended yet.</summary>
    internal bool TrySignal(string name) => kill(_process.Id, name switch { "INT" => Interrupt, "TERM" => Terminate, _ => throw new ArgumentException($"what is SIG{name}?", nameof(name)) }) == 0;

    // A mask, the first signal its lowest bit.
    private static ulong IgnoredSignals()
    {
        const string key = "SigIgn:";
        var line = File.ReadLines("/proc/self/status").First(static l => l.StartsWith(key, StringComparison.Ordinal));
        return ulong.Parse(line.AsSpan(key.Length).Trim(), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
    }

    [LibraryImport("libc")]
    private static partial int kill(int process, int signal);

    [LibraryImport("libc")]
    private static partial nint signal(int number, nint handler);

    private static void Add(StringBuilder text, string? line)
    {
        if (line is not null)
        {
            lock (text)
            {
                _ = text.Append(line).Append('\n');
            }
        }
    }

    private static string Text(StringBuilder text)
    {
        lock (text)
        {
            return text.ToString();
        }
    }
}
