using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using OpenWeights.Tune.Distributed.Channel;
using OpenWeights.Tune.Distributed.Engines;
using OpenWeights.Tune.Distributed.Engines.Mpi;
using OpenWeights.Tune.Distributed.Engines.Nccl;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Distributed;

/// <summary>How a process becomes one of several ranks.</summary>
internal static partial class RankStart
{
    private static readonly TimeSpan s_grace = TimeSpan.FromSeconds(10);

    private const int ProcessorsOnline = 84;
    private const string GpusVariable = "CUDA_VISIBLE_DEVICES";
    private const string ThreadsVariable = "OMP_NUM_THREADS";

    /// <summary>Whether this process has become one of several ranks.</summary>
    public static bool HasJoined { get; private set; }

    /// <summary>
    /// Called with the sentence some seconds after another rank failed, if this one is still computing then: it must end the process.
    /// </summary>
    public static Action<string>? EndsLate { get; set; }

    /// <summary>Version of this program; all ranks must have the same.</summary>
    internal static string Version => typeof(RankStart).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown";

    /// <summary>
    /// Gives this rank its GPU and its share of the cores. Must be called first, before torch is loaded, which reads both once; under an mpirun the program
    /// may begin anew here. Does nothing in a run of one process.
    /// </summary>
    /// <exception cref="RankFailedException">The environment's variables contradict each other.</exception>
    public static void Prepare()
    {
        var environment = RankEnvironment.Current;
        RankKeeper.Enter(environment);
        Prepare(environment, Environment.GetEnvironmentVariable, GlobalLibrary.SetVariable);
    }

    /// <summary>The same with variables of anywhere.</summary>
    internal static void Prepare(RankEnvironment environment, Func<string, string?> read, Action<string, string> write)
    {
        if (environment.Size == 1)
        {
            return;
        }

        // A list of one is this rank's own already. An empty one hides all GPUs.
        var gpus = read(GpusVariable);
        if (gpus is null)
        {
            write(GpusVariable, $"{environment.LocalRank}");
        }
        else if (gpus.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries) is { Length: > 1 } list)
        {
            write(GpusVariable, environment.LocalRank < list.Length
                ? list[environment.LocalRank]
                : throw new RankFailedException($"rank {environment.Rank} is number {environment.LocalRank} of its machine, but {GpusVariable} has only {list.Length} GPUs: {gpus}."));
        }

        if (string.IsNullOrEmpty(read(ThreadsVariable)) && environment.LocalSize > 1)
        {
            // mpirun may have given this rank cores of its own.
            var (own, all) = (Environment.ProcessorCount, OperatingSystem.IsLinux() ? (int)sysconf(ProcessorsOnline) : Environment.ProcessorCount);
            write(ThreadsVariable, $"{(own * environment.LocalSize <= all ? own : Math.Max(1, own / environment.LocalSize))}");
        }
    }

    /// <summary>
    /// Joins the other ranks: waits for all of them, and checks that they run the same version of the program. Without variables of several
    /// ranks in the environment, this is a run of one process.
    /// </summary>
    /// <param name="usesGpu">Whether tensors are on GPUs: then NCCL moves them, else MPI.</param>
    /// <exception cref="RankFailedException">Ranks do not come together; one sentence says which, and why.</exception>
    internal static RankGroup Join(bool usesGpu)
    {
        var environment = RankEnvironment.Current;
        if (environment.Size == 1)
        {
            return RankGroup.Alone;
        }

        var limits = RankLimits.Read(Environment.GetEnvironmentVariable);
        var activity = new RankActivity(limits.Stall, signs: new ProcessSignsReader().Read);
        WorkMarks.Watcher = activity.Progressed;

        // Where MPI started the ranks, it tells where rank 0 is.
        var mpi = !usesGpu || environment.MasterAddress is null ? MpiEngine.Start(environment, activity, limits) : null;
        RankChannel? channel = null;
        try
        {
            channel = environment.MasterAddress is { } address
                ? ByAddress(environment, [new DnsEndPoint(address, environment.MasterPort)], limits, activity)
                : ByMpi(mpi!, environment, limits, activity);
            if (mpi is not null)
            {
                mpi.Channel = channel;
            }

            HasJoined = true;
            EndLate(channel);
            return usesGpu
                ? new RankGroup(NcclEngine.Start(channel, environment.Size, activity, limits, mpi), channel)
                : new RankGroup(mpi!, channel);
        }
        catch (Exception)
        {
            channel?.Dispose();
            throw;
        }
    }

    /// <summary>Runs an action, and tells the other ranks if it throws, so that all end with that sentence.</summary>
    /// <param name="group">All ranks.</param>
    /// <param name="action">The run.</param>
    internal static T Guard<T>(RankGroup group, Func<T> action)
    {
        try
        {
            return action();
        }
        catch (Exception e) when (!group.IsAlone && e is not (RankFailedException or OperationCanceledException))
        {
            group.Channel.Fail(e.Message.Split('\n')[0].TrimEnd('.') + ".");
            throw;
        }
    }

    // A rank that computes for long between two operations, or is stuck in one of the GPU's, must not outlive the run.
    private static void EndLate(RankChannel channel) => channel.Failed.Register(() =>
    {
        Thread.Sleep(s_grace);
        if (!channel.IsLeaving)
        {
            EndsLate?.Invoke(channel.Failure!);
        }
    });

    private static RankChannel ByAddress(RankEnvironment environment, IReadOnlyList<DnsEndPoint> addresses, RankLimits limits, RankActivity activity)
    {
        var self = new RankHello(environment.Rank, environment.Size, Dns.GetHostName(), Version, environment.Token);
        return environment.Rank == 0 ? WaitForAll(RankHub.Listen(self, environment.MasterPort, limits, activity)) : RankMember.Join(self, addresses, limits, activity);
    }

    private static RankChannel ByMpi(MpiEngine mpi, RankEnvironment environment, RankLimits limits, RankActivity activity)
    {
        var token = RandomNumberGenerator.GetHexString(32);
        var self = new RankHello(environment.Rank, environment.Size, Dns.GetHostName(), Version, token);
        if (environment.Rank == 0)
        {
            var hub = RankHub.Listen(self, environment.MasterPort, limits, activity);
            _ = mpi.BroadcastText(string.Join('\n', [token, self.Host, .. OwnAddresses().Take(32).Select(a => $"{a}|{hub.Port}")]));
            return WaitForAll(hub);
        }

        // Those on rank 0's machine reach it in any case, whatever addresses it has.
        var lines = mpi.BroadcastText("").Split('\n');
        var places = lines[2..].Select(static line => line.Split('|')).Select(static p => new DnsEndPoint(p[0], int.Parse(p[1], System.Globalization.CultureInfo.InvariantCulture))).ToList();
        var isNear = lines[1] == self.Host && places.Count > 0;
        List<DnsEndPoint> addresses = isNear ? [new DnsEndPoint("127.0.0.1", places[0].Port), .. places] : places;
        return RankMember.Join(self with { Token = lines[0] }, addresses, limits, activity);
    }

    private static RankHub WaitForAll(RankHub hub)
    {
        try
        {
            hub.WaitForAll();
            return hub;
        }
        catch (Exception)
        {
            hub.Dispose();
            throw;
        }
    }

    // Where other machines may reach this one: what its network cards have, and its name.
    private static IEnumerable<string> OwnAddresses() =>
    [
        .. NetworkInterface.GetAllNetworkInterfaces()
            .Where(static card => card.OperationalStatus is OperationalStatus.Up or OperationalStatus.Unknown && card.NetworkInterfaceType != NetworkInterfaceType.Loopback)
            .SelectMany(static card => card.GetIPProperties().UnicastAddresses)
            .Select(static unicast => unicast.Address)
            .Where(static a => !IPAddress.IsLoopback(a) && !a.IsIPv6LinkLocal)
            .OrderBy(static a => a.AddressFamily == AddressFamily.InterNetwork ? 0 : 1)
            .Select(static a => a.ToString()),
        Dns.GetHostName(),
    ];

    [LibraryImport("libc")]
    private static partial long sysconf(int name);
}
