using System.Net;
using System.Net.Sockets;
using System.Text;
using NUnit.Framework;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Distributed.Channel;

namespace OpenWeights.Tune.Tests.Distributed;

/// <summary>The channel between ranks: who may join, what is told, and who is named when it goes wrong.</summary>
[TestFixture]
public sealed class RankChannelTests
{
    private static readonly RankLimits s_limits = new(TimeSpan.FromSeconds(30), TimeSpan.FromSeconds(30), TimeSpan.FromSeconds(20));

    [Test]
    public void Texts_of_all_ranks_come_to_all_in_their_order_though_others_knock_at_the_port()
    {
        using var hub = Listen(3);
        using var silent = Knock(hub.Port, "");
        using var browser = Knock(hub.Port, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        using var noise = Knock(hub.Port, "OWTRANK1\u0001\u007f\u007f\u007f\u007f and so on");
        var members = Task.WhenAll(Task.Run(() => Join(hub.Port, 2, 3)), Task.Run(() => Join(hub.Port, 1, 3)));
        hub.WaitForAll();
        RankChannel[] all = [hub, .. members.Result.OrderBy(static m => m.Rank)];
        try
        {
            for (var round = 0; round < 20; round++)
            {
                var texts = Task.WhenAll(all.Select(channel => Task.Run(() => channel.Exchange($"{round}: {channel.Rank}\nä, {new string('x', round * 100)}")))).Result;
                Assert.That(texts, Has.All.EqualTo(Enumerable.Range(0, 3).Select(rank => $"{round}: {rank}\nä, {new string('x', round * 100)}")));
            }

            Assert.That(all.Select(static c => string.Join(',', c.Hosts)), Has.All.EqualTo("host0,host1,host2"));
        }
        finally
        {
            _ = Parallel.ForEach(all, static c => c.Dispose());
        }
    }

    [Test]
    public void Another_version_ends_all_with_its_name()
    {
        using var hub = Listen(2);
        var member = Task.Run(() => Failure(() => Join(hub.Port, 1, 2, version: "2.0")));
        var sentence = Failure(hub.WaitForAll);
        Assert.That(sentence, Is.EqualTo("rank 1 (host1) runs owt 2.0, and rank 0 (host0) runs 1.0: use the same version on all machines."));
        Assert.That(member.Result, Is.EqualTo(sentence));
    }

    [Test]
    public void A_rank_of_another_number_of_ranks_and_one_that_is_there_twice_are_told_so()
    {
        using var hub = Listen(3);
        Assert.That(Failure(() => Join(hub.Port, 1, 4)), Is.EqualTo("rank 1 (host1) was started as one of 4 ranks, and rank 0 (host0) as one of 3: start all with the same number."));
        Assert.That(Failure(() => Join(hub.Port, 0, 3)), Does.StartWith("rank 0 (host0) is there twice"));
        Assert.That(Failure(() => Join(hub.Port, 3, 3)), Does.StartWith("rank 3 (host3) is there twice"));
    }

    [Test]
    public void A_rank_of_another_start_is_turned_away_and_both_starts_say_what_is_missing()
    {
        var brief = s_limits with { Start = TimeSpan.FromSeconds(1) };
        using var hub = RankHub.Listen(Self(0, 2, token: "a"), 0, brief, new RankActivity());
        var other = Task.Run(() => Failure(() => RankMember.Join(Self(1, 2, token: "b"), [new DnsEndPoint("127.0.0.1", hub.Port)], brief, new RankActivity())));
        Assert.That(Failure(hub.WaitForAll), Is.EqualTo($"rank 1 of 2 did not come to rank 0 (host0, port {hub.Port}) within 1 s; turned away was rank 1 of host1 (another run listens there)."));
        Assert.That(other.Result, Does.StartWith($"rank 1 (host1) cannot reach rank 0 at 127.0.0.1:{hub.Port} for 1 s: another run listens there."));
    }

    [Test]
    public void A_port_that_is_taken_and_one_where_nobody_listens_are_named()
    {
        var brief = s_limits with { Start = TimeSpan.FromSeconds(0.3) };
        using var hub = Listen(2);
        Assert.That(Failure(() => RankHub.Listen(Self(0, 2), hub.Port, brief, new RankActivity())), Does.StartWith($"rank 0 (host0) cannot listen at port {hub.Port}: ").And.Contain("set MASTER_PORT to another port"));
        Assert.That(Failure(() => RankMember.Join(Self(1, 2), [new DnsEndPoint("127.0.0.1", NcclEngineTests.FreePort())], brief, new RankActivity())), Does.Contain("nothing listens there").And.Contain("Start rank 0 too"));
        Assert.That(Failure(() => RankMember.Join(Self(1, 2), [new DnsEndPoint("there-is-no-such-host.invalid", 1)], brief, new RankActivity())), Does.Contain("no address is known for there-is-no-such-host.invalid").Or.Contain("there-is-no-such-host.invalid:1"));
    }

    [Test]
    public void Ranks_that_differ_are_named_with_their_values() => Assert.That(
        RankAgreement.Difference("the config", ["a", "b", "a", "a"], ["x", "x", "y", "x"]),
        Is.EqualTo("the config is not the same on all ranks: a on ranks 0, 3 (x) and rank 2 (y); b on rank 1 (x)."));

    private static string Failure(Action action) => Assert.Throws<RankFailedException>(() => action())!.Message;

    private static RankHello Self(int rank, int size, string version = "1.0", string token = "") => new(rank, size, $"host{rank}", version, token);

    private static RankHub Listen(int size) => RankHub.Listen(Self(0, size), 0, s_limits, new RankActivity());

    private static RankMember Join(int port, int rank, int size, string version = "1.0") =>
        RankMember.Join(Self(rank, size, version), [new DnsEndPoint("127.0.0.1", port)], s_limits, new RankActivity());

    private static TcpClient Knock(int port, string text)
    {
        var client = new TcpClient("127.0.0.1", port);
        client.GetStream().Write(Encoding.Latin1.GetBytes(text));
        return client;
    }
}
