using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Tests.Training.Memory;

/// <summary>The limits of control groups, as the kernel writes them.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class CgroupMemoryTests
{
    [Test]
    public void Version_2_counts_the_tightest_of_the_groups_around_a_process_and_lets_caches_go()
    {
        using var folder = new TemporaryFolder();
        folder.Write("self", "0::/user.slice/job\n");
        folder.Write("cgroup/user.slice/memory.max", "1000000\n");
        folder.Write("cgroup/user.slice/memory.current", "900000\n");
        folder.Write("cgroup/user.slice/memory.stat", "anon 100000\nfile 700000\ninactive_file 500000\nactive_file 200000\n");
        folder.Write("cgroup/user.slice/job/memory.max", "max\n");
        folder.Write("cgroup/user.slice/job/memory.current", "100000\n");
        Assert.That(CgroupMemory.Read(folder.At("cgroup"), folder.At("self")), Is.EqualTo(new CgroupMemory(1_000_000, 800_000)));
    }

    [Test]
    public void Version_1_has_a_hierarchy_for_memory_and_its_largest_number_for_no_limit()
    {
        using var folder = new TemporaryFolder();
        folder.Write("self", "5:cpu,cpuacct:/\n4:memory:/docker/abc\n0::/\n");
        folder.Write("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        folder.Write("cgroup/memory/memory.usage_in_bytes", "5000000\n");
        Assert.That(CgroupMemory.Read(folder.At("cgroup"), folder.At("self")), Is.Null);
        folder.Write("cgroup/memory/docker/abc/memory.limit_in_bytes", "500000000\n");
        folder.Write("cgroup/memory/docker/abc/memory.usage_in_bytes", "300000000\n");
        folder.Write("cgroup/memory/docker/abc/memory.stat", "inactive_file 1\ntotal_inactive_file 50000000\ntotal_active_file 0\n");
        Assert.That(CgroupMemory.Read(folder.At("cgroup"), folder.At("self")), Is.EqualTo(new CgroupMemory(500_000_000, 250_000_000)));
    }

    [Test]
    public void A_container_sees_its_own_group_at_the_root()
    {
        using var folder = new TemporaryFolder();
        folder.Write("self", "0::/host/path/that/is/not/here\n");
        folder.Write("cgroup/memory.max", "4096\n");
        folder.Write("cgroup/memory.current", "8192\n");
        Assert.That(CgroupMemory.Read(folder.At("cgroup"), folder.At("self")), Is.EqualTo(new CgroupMemory(4096, 0)));
        Assert.That(CgroupMemory.Read(folder.At("cgroup"), folder.At("none")), Is.Null);
    }
}
