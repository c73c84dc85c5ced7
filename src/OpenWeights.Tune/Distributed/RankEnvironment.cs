using System.Globalization;

namespace OpenWeights.Tune.Distributed;

/// <summary>Which rank this process is, as its starter says by variables of the environment.</summary>
/// <param name="Rank">This rank, from 0.</param>
/// <param name="Size">Number of ranks.</param>
internal sealed record RankEnvironment(int Rank, int Size)
{
    private const int UsualPort = 29500;

    /// <summary>Where rank 0 waits for the others: a name or an address; null where MPI's start tells it.</summary>
    internal const string MasterAddressVariable = "MASTER_ADDR";

    /// <summary>The port there.</summary>
    internal const string MasterPortVariable = "MASTER_PORT";

    /// <summary>What only ranks of one start know; ranks of another start that come to the same port are refused.</summary>
    internal const string TokenVariable = "OWT_RANK_TOKEN";

    /// <summary>This rank among those of its machine, from 0.</summary>
    internal int LocalRank { get; private init; }

    /// <summary>Number of ranks on this machine; 0 if unknown.</summary>
    internal int LocalSize { get; private init; }

    /// <summary>What says so: "torchrun's variables".</summary>
    internal string Source { get; private init; } = "no variables";

    /// <summary>Where rank 0 waits for the others, or null.</summary>
    internal string? MasterAddress { get; private init; }

    /// <summary>The port there; 0 for a free one, which MPI tells.</summary>
    internal int MasterPort { get; private init; }

    /// <summary>Secret of this start, or empty.</summary>
    internal string Token { get; private init; } = "";

    /// <summary>Whether an MPI's mpirun started this process, so that MPI can tell where rank 0 waits.</summary>
    internal bool IsOfMpi { get; private init; }

    /// <summary>This process's.</summary>
    /// <exception cref="RankFailedException">The variables contradict each other.</exception>
    internal static RankEnvironment Current => Detect(Environment.GetEnvironmentVariable);

    /// <summary>
    /// Reads the variables of torchrun (and owt launch), Kubeflow's PET_, Open MPI, PMI (MPICH, Intel MPI), SLURM and Kubernetes' indexed
    /// jobs, in this order. MPI's come before SLURM's: mpirun starts its helpers by srun, whose ranks are machines.
    /// </summary>
    /// <param name="read">Value of a variable, or null.</param>
    /// <exception cref="RankFailedException">The variables contradict each other.</exception>
    internal static RankEnvironment Detect(Func<string, string?> read)
    {
        var values = new Values(read);
        var found = OfTorchrun(values) ?? OfKubeflow(values) ?? OfMpi(values) ?? OfSlurm(values) ?? OfKubernetes(values);
        if (found is null || found.Size == 1)
        {
            return new RankEnvironment(0, 1);
        }

        if (found.Rank >= found.Size)
        {
            throw new RankFailedException($"{found.Source} say rank {found.Rank} of {found.Size}; ranks are counted from 0.");
        }

        found = found with
        {
            MasterAddress = values.Text(MasterAddressVariable) ?? values.Text("PET_MASTER_ADDR") ?? found.MasterAddress,
            MasterPort = values.Number(MasterPortVariable, 0, 65535) ?? values.Number("PET_MASTER_PORT", 0, 65535) ?? found.MasterPort,
            Token = values.Text(TokenVariable) ?? "",
        };

        // torchrun's own store may listen at MASTER_PORT.
        if (found.MasterPort > 0 && values.Text("TORCHELASTIC_USE_AGENT_STORE") == "True")
        {
            found = found with { MasterPort = found.MasterPort == 65535 ? 1024 : found.MasterPort + 1 };
        }

        return found.MasterAddress is not null || found.IsOfMpi
            ? found with { MasterPort = found.MasterPort == 0 && found.MasterAddress is not null ? UsualPort : found.MasterPort }
            : found.LocalSize == found.Size
                ? found with { MasterAddress = "127.0.0.1", MasterPort = found.MasterPort == 0 ? UsualPort : found.MasterPort }
                : throw new RankFailedException($"{found.Source} say rank {found.Rank} of {found.Size}, but not where rank 0 is: set {MasterAddressVariable} to its machine's name or address, and {MasterPortVariable} to a free port there.");
    }

    private static RankEnvironment? OfTorchrun(Values values)
    {
        if (values.Number("RANK") is not { } rank)
        {
            return null;
        }

        var size = values.Number("WORLD_SIZE", 1) ?? throw new RankFailedException($"RANK is {rank}, but WORLD_SIZE is not set: set it to the number of ranks, or unset RANK.");
        return new RankEnvironment(rank, size)
        {
            LocalRank = values.Number("LOCAL_RANK") ?? 0,
            LocalSize = values.Number("LOCAL_WORLD_SIZE", 1) ?? 0,
            Source = "RANK and WORLD_SIZE",
            IsOfMpi = values.IsOfMpi,
        };
    }

    private static RankEnvironment? OfKubeflow(Values values)
    {
        if (values.Number("PET_NODE_RANK") is not { } node || values.Number("PET_NNODES", 1) is not { } nodes)
        {
            return null;
        }

        return values.Text("PET_NPROC_PER_NODE") is null or "1"
            ? new RankEnvironment(node, nodes) { LocalSize = 1, Source = "PET_NODE_RANK and PET_NNODES" }
            : throw new RankFailedException($"PET_NPROC_PER_NODE is {values.Text("PET_NPROC_PER_NODE")}: several ranks on a machine are started by `owt launch -- train ...`, which reads the PET_ variables.");
    }

    private static RankEnvironment? OfMpi(Values values) =>
        values.Number("OMPI_COMM_WORLD_RANK") is { } rank && values.Number("OMPI_COMM_WORLD_SIZE", 1) is { } size
            ? new RankEnvironment(rank, size)
            {
                LocalRank = values.Number("OMPI_COMM_WORLD_LOCAL_RANK") ?? 0,
                LocalSize = values.Number("OMPI_COMM_WORLD_LOCAL_SIZE", 1) ?? 0,
                Source = "Open MPI's variables",
                IsOfMpi = true,
            }
            : values.Number("PMI_RANK") is { } number && values.Number("PMI_SIZE", 1) is { } count
                ? new RankEnvironment(number, count)
                {
                    LocalRank = values.Number("MPI_LOCALRANKID") ?? values.Number("SLURM_LOCALID") ?? 0,
                    LocalSize = values.Number("MPI_LOCALNRANKS", 1) ?? 0,
                    Source = "PMI_RANK and PMI_SIZE",
                    IsOfMpi = true,
                }
                : null;

    // Only where srun started this process: a batch script and an interactive shell have SLURM's variables, but are no ranks.
    private static RankEnvironment? OfSlurm(Values values)
    {
        if (values.Number("SLURM_PROCID") is not { } rank || values.Number("SLURM_STEP_ID") is null
            || (values.Number("SLURM_STEP_NUM_TASKS", 1) ?? values.Number("SLURM_NTASKS", 1)) is not { } size || values.Text("SLURM_JOB_NAME") is "interactive" or "bash")
        {
            return null;
        }

        const int firstPort = 20000;
        const int ports = 10000;
        return new RankEnvironment(rank, size)
        {
            LocalRank = values.Number("SLURM_LOCALID") ?? 0,
            LocalSize = values.Number("SLURM_STEP_NUM_NODES", 1) == 1 ? size : 0,
            Source = "SLURM's variables",
            MasterAddress = SlurmNodes.First(values.Text("SLURM_STEP_NODELIST") ?? values.Text("SLURM_NODELIST")),
            MasterPort = firstPort + (int)((((values.Number("SLURM_JOB_ID") ?? 0L) * 7) + (values.Number("SLURM_STEP_ID") ?? 0)) % ports),
        };
    }

    private static RankEnvironment? OfKubernetes(Values values) =>
        values.Number("JOB_COMPLETION_INDEX") is { } rank && values.Number("WORLD_SIZE", 1) is { } size
            ? new RankEnvironment(rank, size) { LocalSize = 1, Source = "JOB_COMPLETION_INDEX and WORLD_SIZE" }
            : null;

    private sealed class Values(Func<string, string?> read)
    {
        internal bool IsOfMpi => Text("OMPI_COMM_WORLD_SIZE") is not null || Text("PMI_SIZE") is not null;

        internal string? Text(string name) => read(name) is { } text && text.Trim() is { Length: > 0 } trimmed ? trimmed : null;

        internal int? Number(string name, int least = 0, int most = int.MaxValue) => Text(name) switch
        {
            null => null,
            var text when int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most => number,
            var text => throw new RankFailedException($"{name} is '{text}'; it must be a number from {least}{(most == int.MaxValue ? "" : $" to {most}")}."),
        };
    }
}
