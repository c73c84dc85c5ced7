using NUnit.Framework;
using OpenWeights.Tune.Distributed;

namespace OpenWeights.Tune.Tests.Distributed;

/// <summary>What starters say by variables of the environment is understood, and contradictions are told.</summary>
[TestFixture]
public sealed class RankEnvironmentTests
{
    [TestCase("", 0, 1, 0, null, 0)]
    [TestCase("WORLD_SIZE=1 RANK=0", 0, 1, 0, null, 0)]
    [TestCase("RANK=5 WORLD_SIZE=8 LOCAL_RANK=1 LOCAL_WORLD_SIZE=4 MASTER_ADDR=a MASTER_PORT=1234", 5, 8, 1, "a", 1234)]
    [TestCase("RANK=1 WORLD_SIZE=2 MASTER_ADDR=a", 1, 2, 0, "a", 29500)]
    [TestCase("RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2", 1, 2, 1, "127.0.0.1", 29500)]
    [TestCase("RANK=1 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=4000 TORCHELASTIC_USE_AGENT_STORE=True", 1, 2, 0, "a", 4001)]
    [TestCase("PET_NODE_RANK=1 PET_NNODES=2 PET_NPROC_PER_NODE=1 PET_MASTER_ADDR=b PET_MASTER_PORT=77", 1, 2, 0, "b", 77)]
    [TestCase("OMPI_COMM_WORLD_RANK=3 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_RANK=1 SLURM_PROCID=1 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2", 3, 4, 1, null, 0)]
    [TestCase("PMI_RANK=3 PMI_SIZE=4 MPI_LOCALRANKID=2", 3, 4, 2, null, 0)]
    [TestCase("SLURM_PROCID=3 SLURM_STEP_NUM_TASKS=4 SLURM_LOCALID=1 SLURM_STEP_ID=2 SLURM_JOB_ID=100 SLURM_STEP_NODELIST=node[07-08,11]", 3, 4, 1, "node07", 20702)]
    [TestCase("SLURM_PROCID=0 SLURM_NTASKS=4 SLURM_JOB_ID=100 SLURM_NODELIST=node[1-2]", 0, 1, 0, null, 0, Description = "a batch script is no rank")]
    [TestCase("SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=4 SLURM_STEP_ID=2 SLURM_JOB_NAME=interactive SLURM_STEP_NODELIST=n", 0, 1, 0, null, 0)]
    [TestCase("JOB_COMPLETION_INDEX=1 WORLD_SIZE=4 MASTER_ADDR=job-0.job", 1, 4, 0, "job-0.job", 29500)]
    [TestCase("JOB_COMPLETION_INDEX=1", 0, 1, 0, null, 0)]
    public void Each_starter_is_understood(string variables, int rank, int size, int local, string? address, int port)
    {
        var found = RankEnvironment.Detect(Reader(variables));
        Assert.That((found.Rank, found.Size, found.LocalRank, found.MasterAddress, found.MasterPort), Is.EqualTo((rank, size, local, address, port)));
    }

    [TestCase("RANK=1", "RANK is 1, but WORLD_SIZE is not set")]
    [TestCase("RANK=x WORLD_SIZE=2", "RANK is 'x'; it must be a number from 0.")]
    [TestCase("RANK=2 WORLD_SIZE=2 MASTER_ADDR=a", "say rank 2 of 2; ranks are counted from 0.")]
    [TestCase("RANK=1 WORLD_SIZE=2", "but not where rank 0 is: set MASTER_ADDR")]
    [TestCase("PET_NODE_RANK=1 PET_NNODES=2 PET_NPROC_PER_NODE=4", "are started by `owt launch -- train ...`")]
    [TestCase("RANK=1 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=99999", "MASTER_PORT is '99999'; it must be a number from 0 to 65535.")]
    public void Contradictions_are_told(string variables, string told) =>
        Assert.That(Assert.Throws<RankFailedException>(() => RankEnvironment.Detect(Reader(variables)))!.Message, Does.Contain(told));

    [TestCase("a", "a")]
    [TestCase("node3,node4", "node3")]
    [TestCase("node[01-04,07],x3", "node01")]
    [TestCase("node[12]", "node12")]
    [TestCase("r[1-2]n[003-004]", "r1n003")]
    [TestCase("", null)]
    public void The_first_of_SLURMs_nodes_is_found(string list, string? first) => Assert.That(SlurmNodes.First(list), Is.EqualTo(first));

    [TestCase("", 1, "1")]
    [TestCase("CUDA_VISIBLE_DEVICES=4,5,6,7", 2, "6")]
    [TestCase("CUDA_VISIBLE_DEVICES=GPU-1,GPU-2", 1, "GPU-2")]
    [TestCase("CUDA_VISIBLE_DEVICES=3", 1, "3")]
    public void Each_rank_has_one_GPU(string variables, int local, string expected)
    {
        var all = Variables(variables);
        var environment = RankEnvironment.Detect(Reader($"RANK={local} WORLD_SIZE=4 LOCAL_RANK={local} LOCAL_WORLD_SIZE=4"));
        RankStart.Prepare(environment, name => all.GetValueOrDefault(name), (name, value) => all[name] = value);
        Assert.That(all["CUDA_VISIBLE_DEVICES"], Is.EqualTo(expected));
        Assert.That(int.Parse(all["OMP_NUM_THREADS"], System.Globalization.CultureInfo.InvariantCulture), Is.InRange(1, Math.Max(1, Environment.ProcessorCount / 2)));
    }

    [Test]
    public void More_ranks_than_GPUs_are_told() => Assert.That(
        Assert.Throws<RankFailedException>(static () => RankStart.Prepare(RankEnvironment.Detect(Reader("RANK=2 WORLD_SIZE=4 LOCAL_RANK=2 LOCAL_WORLD_SIZE=4")), static name => name == "CUDA_VISIBLE_DEVICES" ? "0,1" : null, static (_, _) => { }))!.Message,
        Is.EqualTo("rank 2 is number 2 of its machine, but CUDA_VISIBLE_DEVICES has only 2 GPUs: 0,1."));

    private static Dictionary<string, string> Variables(string variables) =>
        variables.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(static v => v.Split('=', 2)).ToDictionary(static v => v[0], static v => v[1]);

    private static Func<string, string?> Reader(string variables) => name => Variables(variables).GetValueOrDefault(name);
}
