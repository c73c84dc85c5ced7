using System.CommandLine;
using System.Globalization;
using OpenWeights.Tune.Cli.Launching;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt launch.</summary>
internal static class LaunchCommand
{
    private const int MaxPort = 65535;

    /// <summary>What is started; its options are not this command's.</summary>
    internal static readonly Argument<string[]> Started = new("command") { Description = "What each rank runs: a command of owt with its arguments, after --.", HelpName = "COMMAND", Arity = ArgumentArity.OneOrMore };

    private static readonly Option<int?> s_ranks = CommonOptions.Number<int>("--ranks", "Number of ranks on this machine; default: one for each NVIDIA GPU. With --hosts: on all machines.", 1);
    private static readonly Option<string> s_starter = new("--starter") { Description = "What starts the ranks: processes (for GPUs, where NCCL moves tensors), mpirun (for CPUs, where MPI does), or auto: processes if this machine has an NVIDIA GPU.", DefaultValueFactory = static _ => "auto" };
    private static readonly Option<string?> s_hosts = new("--hosts") { Description = "Machines on which mpirun starts the ranks by ssh, each with its number of ranks, such as node1:4,node2:4.", HelpName = "HOST:N,..." };
    private static readonly Option<int?> s_machines = CommonOptions.Number<int>("--nnodes", "Number of machines; the same command is run on each of them.", 1);
    private static readonly Option<int?> s_machine = CommonOptions.Number<int>("--node-rank", "Number of this machine, from 0; default: what Kubernetes (JOB_COMPLETION_INDEX) or SLURM (SLURM_NODEID) says.", 0);
    private static readonly Option<string?> s_master = new("--master") { Description = "Name or address of machine 0, and the port that its rank 0 listens at (29500).", HelpName = "HOST[:PORT]" };

    internal static Command Create()
    {
        _ = s_starter.OnlyFrom("auto", "processes", "mpirun");
        var command = new Command("launch", "Runs a command as several ranks: one process for each GPU, or for each share of the cores.") { s_ranks, s_starter, s_hosts, s_machines, s_machine, s_master, Started };
        command.SetAction(static arguments => new Launcher(Plan(arguments, Environment.GetEnvironmentVariable, CountGpus), Console.Out, Console.Error).Run());
        return command;
    }

    /// <summary>What is to be started.</summary>
    /// <param name="arguments">The command line.</param>
    /// <param name="read">Value of a variable of the environment, or null.</param>
    /// <param name="countGpus">Counts this machine's GPUs.</param>
    /// <exception cref="ConfigException">The options do not fit together.</exception>
    internal static LaunchPlan Plan(ParseResult arguments, Func<string, string?> read, Func<int> countGpus)
    {
        string[] started = arguments.GetValue(Started) is ["owt", .. var rest] ? rest : arguments.GetValue(Started)!;
        if (started is not [var name, ..] || name is "launch" || CommandLine.Commands.All(c => !c.Equals(name, StringComparison.OrdinalIgnoreCase)))
        {
            throw Problem("command", $"after -- comes a command of owt, such as: owt launch --ranks 2 -- train mine.yaml{(started is [var wrong, ..] ? $"; '{wrong}' is none that can be launched" : "")}.");
        }

        var gpus = countGpus();
        var hosts = arguments.GetValue(s_hosts);
        var machines = arguments.GetValue(s_machines) ?? Number(read, "PET_NNODES") ?? 1;
        if (arguments.GetValue(s_machine) > 0 && machines == 1)
        {
            throw Problem("--node-rank", "say of how many machines this is one, such as --nnodes 2.");
        }

        var starter = arguments.GetValue(s_starter);
        var places = hosts is null ? 0 : Count(hosts);
        var ranks = arguments.GetValue(s_ranks) ?? Number(read, "PET_NPROC_PER_NODE") ?? (hosts is not null ? places : gpus > 0 ? gpus
            : throw Problem("--ranks", "this machine has no NVIDIA GPU to count; say how many ranks are to share its cores, such as --ranks 2."));
        if (starter == "mpirun" || hosts is not null || (starter == "auto" && gpus == 0 && machines == 1))
        {
            return machines > 1 || starter == "processes" ? throw Problem(hosts is null ? "--nnodes" : "--hosts", hosts is null
                    ? "mpirun starts the ranks of all machines from one of them: use --hosts a:2,b:2 instead of --nnodes, or --starter processes."
                    : "mpirun starts the ranks of all machines from one of them: leave out --nnodes and --starter processes.")
                : hosts is not null && ranks > places ? throw Problem("--ranks", $"--hosts {hosts} has room for {places} ranks, and --ranks asks for {ranks}: give the machines more, such as {hosts.Split(',')[0].Split(':')[0]}:{ranks}, or leave out --ranks.")
                : new LaunchPlan(started, ranks) { ByMpi = true, Hosts = hosts };
        }

        var machine = arguments.GetValue(s_machine) ?? Number(read, "PET_NODE_RANK") ?? Number(read, "JOB_COMPLETION_INDEX") ?? Number(read, "SLURM_NODEID");
        if (machines > 1 && machine is null)
        {
            throw Problem("--node-rank", $"which of the {machines} machines is this? Give each its number, from 0.");
        }

        if (machine >= machines && machines > 1)
        {
            throw Problem("--node-rank", $"machines are counted from 0, so with --nnodes {machines} it must be at most {machines - 1}.");
        }

        var (master, port) = Master(arguments.GetValue(s_master), read);
        return machines > 1 && master is null
            ? throw Problem("--master", "say where machine 0 is: its name or address, and a free port there, such as --master node0:29500.")
            : new LaunchPlan(started, ranks) { Machines = machines, Machine = machines > 1 ? machine!.Value : 0, Master = master, MasterPort = port };
    }

    private static (string? Host, int Port) Master(string? option, Func<string, string?> read)
    {
        var host = option ?? read("PET_MASTER_ADDR") ?? read("MASTER_ADDR");
        var port = Number(read, "PET_MASTER_PORT") ?? Number(read, "MASTER_PORT") ?? 0;

        // An address of IPv6 has several colons; with a port it is in brackets.
        if (option is not null && option.LastIndexOf(':') is > 0 and var colon && (option.IndexOf(':') == colon || option[colon - 1] == ']'))
        {
            (host, port) = (option[..colon].Trim('[', ']'), int.TryParse(option.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number is > 0 and <= MaxPort
                ? number
                : throw Problem("--master", $"'{option[(colon + 1)..]}' is not a port; ports are numbers from 1 to {MaxPort}."));
        }

        return (string.IsNullOrEmpty(host) ? null : host, port);
    }

    // Number of ranks of a list of machines; one on a machine that has none.
    private static int Count(string hosts)
    {
        var sum = 0;
        foreach (var host in hosts.Split(','))
        {
            var at = host.LastIndexOf(':');
            var ranks = 1;
            if (at == 0 || host.Length == 0 || (at > 0 && (!int.TryParse(host.AsSpan(at + 1), NumberStyles.None, CultureInfo.InvariantCulture, out ranks) || ranks < 1)))
            {
                throw Problem("--hosts", $"'{host}' is no machine with its number of ranks; a list of such is expected, as in node0:2,node1:2.");
            }

            sum += ranks;
        }

        return sum;
    }

    // Kubeflow may also write words here, such as auto.
    private static int? Number(Func<string, string?> read, string name) => int.TryParse(read(name), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;

    private static int CountGpus()
    {
        const string driver = "/proc/driver/nvidia/gpus";
        return Environment.GetEnvironmentVariable("CUDA_VISIBLE_DEVICES") is { } visible
            ? visible.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Count(static d => d != "-1")
            : Directory.Exists(driver) ? Directory.GetDirectories(driver).Length : 0;
    }

    private static ConfigException Problem(string option, string text) => new([new ConfigProblem("command line", option, text)]);
}
