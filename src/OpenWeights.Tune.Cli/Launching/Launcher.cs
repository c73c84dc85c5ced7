using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using OpenWeights.Tune.Distributed;

namespace OpenWeights.Tune.Cli.Launching;

/// <summary>Starts ranks, shows what they print with the rank before each line, and ends all of them when one fails.</summary>
internal sealed class Launcher(LaunchPlan plan, TextWriter output, TextWriter error)
{
    private const int Interrupt = 2;
    private const int Terminate = 15;
    private const int FirstSignalCode = 129;

    // Ranks tell each other of a failure, and end with a sentence that says which rank it was; then they are asked to end, and then killed.
    private static readonly TimeSpan s_byThemselves = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan s_whenAsked = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan s_look = TimeSpan.FromMilliseconds(50);

    private readonly Lock _gate = new();
    private readonly RankErrors _errors = new();
    private readonly List<string> _ofMpirun = [];

    /// <summary>Runs the ranks to their end.</summary>
    /// <returns>The exit code of the first rank that failed, or 0.</returns>
    internal int Run()
    {
        var processes = plan.ByMpi ? StartByMpi() : StartProcesses();
        try
        {
            var code = Watch(processes);
            processes.ForEach(static p => p.ReadToEnd());
            Release(long.MaxValue);
            if (plan.ByMpi && code != 0 && _errors.Signal is { } signal)
            {
                code = FirstSignalCode + signal - 1;
            }

            if (code is not (0 or ExitCode.Stopped) && !_errors.Any)
            {
                // No rank said why, so mpirun's own words may help.
                _ofMpirun.ForEach(error.WriteLine);
                error.WriteLine($"error: {(plan.ByMpi ? "mpirun" : $"rank {FirstFailed(processes)}")} ended with exit code {code}{(RankEnd.Signal(code) is { } by ? $", by signal {by}" : "")}.");
            }

            return code;
        }
        finally
        {
            processes.Where(static p => p.ExitCode is null).ToList().ForEach(static p => p.Kill());
            processes.ForEach(static p => p.Dispose());
        }
    }

    private int FirstFailed(List<RankProcess> processes) => (plan.Machine * plan.LocalRanks) + Math.Max(0, processes.FindIndex(static p => p.ExitCode is not (0 or null)));

    private List<RankProcess> StartProcesses()
    {
        (string, string)[] common = [.. plan.Variables(FreePort, RandomNumberGenerator.GetHexString(32)), .. Threads()];
        return [.. Enumerable.Range(0, plan.LocalRanks).Select(local =>
        {
            var rank = (plan.Machine * plan.LocalRanks) + local;
            return new RankProcess([.. OwnProgram.Command, .. plan.Arguments], [.. common, .. plan.VariablesOf(local)], (line, isError) => Show(rank, line, isError));
        })];
    }

    private List<RankProcess> StartByMpi()
    {
        var starter = MpiStarter.Find();
        var variables = Threads().ToList();
        if (starter.Kind == MpiKind.OpenMpi)
        {
            // Open MPI gives ranks a terminal, which they must not take for one that somebody looks at.
            variables.Add(("TERM", "dumb"));
            if (Environment.UserName == "root")
            {
                variables.AddRange([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
            }
        }

        var names = Environment.GetEnvironmentVariables().Keys.Cast<string>().Union(variables.Select(static v => v.Item1));
        string[] command = [starter.Path, .. starter.Arguments(plan, names), .. OwnProgram.Command, .. plan.Arguments];
        return
        [
            new RankProcess(command, variables, (line, isError) =>
            {
                var (rank, text) = MpiStarter.Read(line);
                Show(rank, text, isError);
            }),
        ];
    }

    private IEnumerable<(string, string)> Threads()
    {
        if (string.IsNullOrEmpty(Environment.GetEnvironmentVariable("OMP_NUM_THREADS")) && plan.Hosts is null)
        {
            yield return ("OMP_NUM_THREADS", $"{Math.Max(1, Environment.ProcessorCount / plan.LocalRanks)}");
        }
    }

    // Until all have ended. Returns the exit code.
    private int Watch(List<RankProcess> processes)
    {
        var (code, failed, asked) = (0, default(DateTime?), default(DateTime?));
        var passedOn = 0;
        (Signals.Answer, Signals.IsPassedOn) = ("stopping all ranks after this step and saving", true);
        while (processes.Any(static p => p.ExitCode is null))
        {
            if (Signals.Received > passedOn)
            {
                // As the signal came: the ranks save and stop at the first, and stop at once at the second.
                passedOn = Signals.Received;
                Send(processes, Signals.IsTerminating ? Terminate : Interrupt);
            }

            if (code == 0 && processes.Select(static p => p.ExitCode).FirstOrDefault(static c => c is not (null or 0)) is { } first)
            {
                (code, failed) = (first, DateTime.UtcNow);
            }

            Release(Environment.TickCount64);
            if (asked is null && passedOn == 0 && !plan.ByMpi)
            {
                TellSignals(processes);
            }

            if (failed is null && plan.ByMpi && HasError)
            {
                // The exit code is mpirun's, once it has ended.
                failed = DateTime.UtcNow;
            }

            if (failed is { } since && asked is null && DateTime.UtcNow - since > s_byThemselves)
            {
                asked = DateTime.UtcNow;
                Send(processes, Terminate);
            }

            if (asked is { } then && DateTime.UtcNow - then > s_whenAsked)
            {
                processes.Where(static p => p.ExitCode is null).ToList().ForEach(static p => p.Kill());
            }

            Thread.Sleep(s_look);
        }

        if (asked is null && passedOn == 0 && !plan.ByMpi)
        {
            TellSignals(processes);
        }

        return code != 0 ? code : asked is not null ? ExitCode.Failed : processes.Select(static p => p.ExitCode ?? 0).FirstOrDefault(static c => c != 0);
    }

    private bool HasError
    {
        get
        {
            lock (_gate)
            {
                return _errors.Any;
            }
        }
    }

    private void Send(List<RankProcess> processes, int signal) =>
        processes.Where(static p => p.ExitCode is null).ToList().ForEach(p => p.Signal(signal, toRanks: plan.ByMpi));

    private void Show(int? rank, string line, bool isError)
    {
        lock (_gate)
        {
            if (rank is null)
            {
                // mpirun tells at length that a rank failed; the rank tells why.
                _ofMpirun.Add(line);
                return;
            }

            _errors.Add(line, told => (isError ? error : output).WriteLine($"{rank}: {told}"), Environment.TickCount64);
        }
    }

    private void Release(long now)
    {
        lock (_gate)
        {
            _errors.Release(now);
        }
    }

    // A rank that a signal ended cannot say so itself.
    private void TellSignals(List<RankProcess> processes)
    {
        for (var local = 0; local < processes.Count; local++)
        {
            if (processes[local].ExitCode is { } code && RankEnd.Signal(code) is { } signal)
            {
                var rank = (plan.Machine * plan.LocalRanks) + local;
                Show(rank, $"error: {RankEnd.Sentence(rank, Dns.GetHostName(), signal)}", isError: true);
            }
        }
    }

    private static int FreePort()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }
}
