using System.Diagnostics;
using NUnit.Framework;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Tests.Distributed.Processes;

namespace OpenWeights.Tune.Tests.Distributed;

/// <summary>Ranks in two networks of their own, each with its address, as on two machines.</summary>
[TestFixture]
public sealed class RankNetworkTests
{
    private const string First = "10.213.77.1";
    private const string Second = "10.213.77.2";
    private static readonly string s_names = $"owt{Environment.ProcessId}";

    /// <summary>Makes two networks and a line between them.</summary>
    [OneTimeSetUp]
    public void Connect()
    {
        foreach (var command in new[]
        {
            $"netns add {s_names}a", $"netns add {s_names}b", $"link add {s_names}x netns {s_names}a type veth peer name {s_names}y netns {s_names}b",
            $"-n {s_names}a addr add {First}/24 dev {s_names}x", $"-n {s_names}b addr add {Second}/24 dev {s_names}y",
            $"-n {s_names}a link set {s_names}x up", $"-n {s_names}b link set {s_names}y up", $"-n {s_names}a link set lo up", $"-n {s_names}b link set lo up",
        })
        {
            if (Ip(command) is { } reason)
            {
                Assert.Ignore($"this machine makes no networks of their own: {reason}");
            }
        }
    }

    /// <summary>Mends the line, which a test may have broken.</summary>
    [SetUp]
    public void Mend() => Assert.That(Ip($"-n {s_names}a link set {s_names}x up"), Is.Null);

    /// <summary>Removes them.</summary>
    [OneTimeTearDown]
    public void Disconnect()
    {
        _ = Ip($"netns del {s_names}a");
        _ = Ip($"netns del {s_names}b");
    }

    [Test]
    public void Ranks_of_two_networks_come_together()
    {
        using var processes = Start("collectives");
        Assert.That(processes.WaitForExit(), Is.Zero, processes.Output);
        Assert.That(processes.Output.Split("gave what they are defined as"), Has.Length.EqualTo(3), processes.Output);
    }

    [Test]
    public void A_line_that_breaks_ends_the_ranks_on_both_sides()
    {
        using var processes = Start("compute");
        _ = processes.WaitUntilReady(2);
        var watch = Stopwatch.StartNew();
        Assert.That(Ip($"-n {s_names}a link set {s_names}x down"), Is.Null, "the line is cut");
        Assert.That(processes.WaitForExit(), Is.Not.Zero, processes.Output);
        Assert.That(watch.Elapsed, Is.LessThan(TimeSpan.FromMinutes(1)));
        Assert.That(processes.Output, Does.Contain($"error: rank 1 ({Environment.MachineName}) gave no sign of life for 3 s").And.Contain($"error: rank 0 ({Environment.MachineName}) gave no sign of life for 3 s"));
    }

    private static RankProcesses Start(string scenario)
    {
        var library = NcclEngineTests.StandInLibrary();
        return RankProcesses.StartPlain(2, $"{scenario} --gpu", static rank => ["ip", "netns", "exec", s_names + (rank == 0 ? "a" : "b")],
            _ => [.. NcclEngineTests.Variables(library, hasStreams: true, 29577), ("MASTER_ADDR", First), (RankLimits.SilenceVariable, "3")]);
    }

    // Null if it went well, else why not.
    private static string? Ip(string arguments)
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo("ip", arguments) { RedirectStandardError = true })!;
            var said = process.StandardError.ReadToEnd();
            process.WaitForExit();
            return process.ExitCode == 0 ? null : said.Trim().Split('\n')[0];
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return "the command ip is not installed";
        }
    }
}
