using NUnit.Framework;
using OpenWeights.Tune.Tests.Distributed.Processes;

namespace OpenWeights.Tune.Tests.Distributed;

/// <summary>Collectives of ranks that are processes give what they are defined as, bit for bit, under each MPI.</summary>
[TestFixture]
public sealed class MpiEngineTests
{
    [Test]
    public void Collectives_give_what_they_are_defined_as([Values("openmpi", "mpich")] string mpi, [Values(2, 4)] int ranks) => Check(mpi, ranks, "collectives");

    [Test]
    public void Messages_in_many_parts_arrive_whole([Values("openmpi", "mpich")] string mpi, [Values(2, 3)] int ranks) => Check(mpi, ranks, "pieces");

    [Test]
    public void Operations_that_overlap_do_not_mix([Values("openmpi", "mpich")] string mpi, [Values(2, 4)] int ranks) => Check(mpi, ranks, "pending");

    private static void Check(string mpi, int ranks, string scenario)
    {
        var output = RankProcesses.Run(mpi, ranks, scenario);
        Assert.That(output.Split('\n').Count(static l => l.Contains("gave what they are defined as", StringComparison.Ordinal)), Is.EqualTo(ranks), output);
    }
}
