using System.Diagnostics;
using System.Text;
using NUnit.Framework;

namespace OpenWeights.Tune.Tests.Distributed.Processes;

/// <summary>Several processes of <see cref="RankProgram"/>, started by the mpirun of an MPI, with all that they print.</summary>
internal sealed class RankProcesses : IDisposable
{
    private readonly Process _process;
    private readonly StringBuilder _output = new();

    private RankProcesses(ProcessStartInfo start)
    {
        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, e) => Add(e.Data);
        _process.ErrorDataReceived += (_, e) => Add(e.Data);
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
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

    /// <summary>Starts ranks.</summary>
    /// <param name="mpi">openmpi or mpich.</param>
    /// <param name="ranks">How many.</param>
    /// <param name="scenario">What they do, with further arguments.</param>
    /// <param name="variables">Variables of their environment.</param>
    internal static RankProcesses Start(string mpi, int ranks, string scenario, params (string Name, string Value)[] variables)
    {
        var mpirun = Mpirun(mpi);
        var start = new ProcessStartInfo(mpirun) { RedirectStandardOutput = true, RedirectStandardError = true };
        string[] options = mpi == "openmpi" ? ["--oversubscribe", "--bind-to", "none", "-n", $"{ranks}"] : ["-n", $"{ranks}"];
        string[] all = [.. options, "dotnet", "exec", typeof(RankProcesses).Assembly.Location, .. scenario.Split(' ')];
        all.ToList().ForEach(start.ArgumentList.Add);
        foreach (var (name, value) in variables.Prepend(("OMP_NUM_THREADS", "1")).Prepend(("OMPI_ALLOW_RUN_AS_ROOT", "1")).Prepend(("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")))
        {
            start.Environment[name] = value;
        }

        return new RankProcesses(start);
    }

    /// <summary>Runs ranks to their end.</summary>
    internal static string Run(string mpi, int ranks, string scenario, params (string Name, string Value)[] variables)
    {
        using var processes = Start(mpi, ranks, scenario, variables);
        Assert.That(processes.WaitForExit(), Is.Zero, processes.Output);
        return processes.Output;
    }

    internal int WaitForExit()
    {
        Assert.That(_process.WaitForExit(TimeSpan.FromMinutes(3)), $"the ranks came to no end\n{Output}");
        _process.WaitForExit();
        return _process.ExitCode;
    }

    public void Dispose()
    {
        if (!_process.HasExited)
        {
            _process.Kill(entireProcessTree: true);
        }

        _process.Dispose();
    }

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
