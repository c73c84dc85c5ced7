using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using NUnit.Framework;

namespace OpenWeights.Tune.Tests.Distributed.Processes;

/// <summary>Several processes of <see cref="RankProgram"/>, started by the mpirun of an MPI, with all that they print.</summary>
internal sealed partial class RankProcesses : IDisposable
{
    private readonly List<Process> _processes = [];
    private readonly StringBuilder _output = new();

    private RankProcesses(IEnumerable<ProcessStartInfo> starts)
    {
        foreach (var start in starts)
        {
            (start.RedirectStandardOutput, start.RedirectStandardError) = (true, true);
            (start.Environment["OMP_NUM_THREADS"], start.Environment["TERM"]) = ("1", "dumb");
            var process = new Process { StartInfo = start };
            process.OutputDataReceived += (_, e) => Add(e.Data);
            process.ErrorDataReceived += (_, e) => Add(e.Data);
            process.Start();
            process.BeginOutputReadLine();
            process.BeginErrorReadLine();
            _processes.Add(process);
        }
    }

    /// <summary>What all ranks have printed up to now.</summary>
    internal string Output
    {
        get
        {
            lock (_output)
            {
                return _output.ToString();
            }
        }
    }

    /// <summary>Starts ranks by an mpirun.</summary>
    /// <param name="mpi">openmpi, mpich, or mpich-as-it-is: without the option that owt launch gives it.</param>
    /// <param name="ranks">How many.</param>
    /// <param name="scenario">What they do.</param>
    /// <param name="variables">Variables of their environment.</param>
    internal static RankProcesses Start(string mpi, int ranks, string scenario, params (string Name, string Value)[] variables)
    {
        string[] options = mpi == "openmpi" ? ["--oversubscribe", "--bind-to", "none", "-n", $"{ranks}"] : [.. mpi == "mpich" ? ["-disable-auto-cleanup"] : Array.Empty<string>(), "-n", $"{ranks}"];
        return new RankProcesses([Info([Mpirun(mpi.Split('-')[0]), .. options], scenario, [.. variables, ("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")])]);
    }

    /// <summary>Starts ranks as processes of this one, which meet at an address.</summary>
    /// <param name="ranks">How many.</param>
    /// <param name="scenario">What they do.</param>
    /// <param name="prefix">What each is started by, such as a command that enters a network of its own.</param>
    /// <param name="variables">Variables of the environment of each.</param>
    internal static RankProcesses StartPlain(int ranks, string scenario, Func<int, string[]> prefix, Func<int, (string Name, string Value)[]> variables) =>
        new(Enumerable.Range(0, ranks).Select(rank => Info(prefix(rank), scenario, [("RANK", $"{rank}"), ("WORLD_SIZE", $"{ranks}"), ("LOCAL_RANK", $"{rank}"), .. variables(rank)])));

    /// <summary>Runs ranks to their end.</summary>
    internal static string Run(string mpi, int ranks, string scenario, params (string Name, string Value)[] variables)
    {
        using var processes = Start(mpi, ranks, scenario, variables);
        Assert.That(processes.WaitForExit(), Is.Zero, processes.Output);
        return processes.Output;
    }

    /// <summary>Waits until each rank has said which process it is, and gives these.</summary>
    internal int[] WaitUntilReady(int ranks)
    {
        var watch = Stopwatch.StartNew();
        while (true)
        {
            var found = ReadyLine().Matches(Output).ToDictionary(static m => int.Parse(m.Groups[1].ValueSpan, CultureInfo.InvariantCulture), static m => int.Parse(m.Groups[2].ValueSpan, CultureInfo.InvariantCulture));
            if (found.Count == ranks)
            {
                return [.. found.OrderBy(static f => f.Key).Select(static f => f.Value)];
            }

            Assert.That(watch.Elapsed, Is.LessThan(TimeSpan.FromMinutes(2)), $"the ranks did not begin\n{Output}");
            Thread.Sleep(20);
        }
    }

    /// <summary>Waits for the end of all, and gives the first exit code that is not 0.</summary>
    internal int WaitForExit()
    {
        foreach (var process in _processes)
        {
            Assert.That(process.WaitForExit(TimeSpan.FromMinutes(3)), $"the ranks came to no end\n{Output}");
            process.WaitForExit();
        }

        return _processes.Select(static p => p.ExitCode).FirstOrDefault(static c => c != 0);
    }

    public void Dispose()
    {
        foreach (var process in _processes)
        {
            if (!process.HasExited)
            {
                process.Kill(entireProcessTree: true);
            }

            process.Dispose();
        }
    }

    private static ProcessStartInfo Info(string[] prefix, string scenario, (string Name, string Value)[] variables)
    {
        string[] all = [.. prefix, "dotnet", "exec", typeof(RankProcesses).Assembly.Location, .. scenario.Split(' ')];
        var start = new ProcessStartInfo(all[0]);
        all.Skip(1).ToList().ForEach(start.ArgumentList.Add);
        foreach (var (name, value) in variables)
        {
            start.Environment[name] = value;
        }

        return start;
    }

    [GeneratedRegex(@"rank (\d+): process (\d+) is ready")]
    private static partial Regex ReadyLine();

    private static string Mpirun(string mpi)
    {
        var found = Environment.GetEnvironmentVariable("PATH")!.Split(Path.PathSeparator).Select(folder => Path.Combine(folder, $"mpirun.{mpi}")).FirstOrDefault(File.Exists);
        if (found is null)
        {
            Assert.Ignore($"mpirun.{mpi} is not installed (scripts/test installs openmpi-bin and mpich where it may)");
        }

        return found;
    }

    private void Add(string? line)
    {
        if (line is not null)
        {
            lock (_output)
            {
                _ = _output.Append(line).Append('\n');
            }
        }
    }
}
