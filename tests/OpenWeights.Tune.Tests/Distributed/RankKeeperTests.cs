using System.Diagnostics;
using NUnit.Framework;
using OpenWeights.Tune.Distributed;

namespace OpenWeights.Tune.Tests.Distributed;

/// <summary>The shell between mpirun and a rank tells by which signal the rank ended, and has its exit code.</summary>
[Parallelizable(ParallelScope.Children)]
public sealed class RankKeeperTests
{
    [TestCase("kill -9 $$", 137, "error: rank 3 (node1) was killed by signal 9: its machine ran out of memory (see dmesg), or somebody or the cluster ended it.\n")]
    [TestCase("kill -11 $$", 139, "error: rank 3 (node1) crashed with signal 11, a segmentation fault.\n")]
    [TestCase("kill -6 $$", 134, "error: rank 3 (node1) crashed with signal 6: a library found an error and ended it; what it printed before says more.\n")]
    [TestCase("kill -24 $$", 152, "error: rank 3 (node1) was ended by signal 24.\n")]
    [TestCase("echo why >&2; exit 2", 2, "why\n")]
    [TestCase("exit 130", 130, "")]
    [TestCase("exit 0", 0, "")]
    public void How_a_rank_ended_is_told(string rank, int code, string told)
    {
        if (OperatingSystem.IsWindows())
        {
            Assert.Ignore("Windows has no /bin/sh");
        }

        var start = new ProcessStartInfo("/bin/sh", ["-c", RankKeeper.Script(3, "node1"), "owt", "sh", "-c", $"echo out; {rank}"]) { RedirectStandardError = true, RedirectStandardOutput = true };
        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync();
        Assert.That(process.StandardOutput.ReadToEnd(), Is.EqualTo("out\n"));
        process.WaitForExit();
        Assert.That((process.ExitCode, error.Result), Is.EqualTo((code, told)));
    }

    [TestCase(9)]
    [TestCase(11)]
    [TestCase(15)]
    [TestCase(24)]
    public void What_is_told_of_a_signal_is_known_again(int signal) =>
        Assert.That(RankEnd.Parse($"error: {RankEnd.Sentence(3, "node1", signal)}"), Is.EqualTo((3, signal)));

    [TestCase(137, 9)]
    [TestCase(139, 11)]
    [TestCase(130, null, Description = "the program's own code after Ctrl-C")]
    [TestCase(128, null)]
    [TestCase(1, null)]
    [TestCase(255, null)]
    public void A_signal_is_known_by_the_exit_code(int code, int? signal) => Assert.That(RankEnd.Signal(code), Is.EqualTo(signal));
}
