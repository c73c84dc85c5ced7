using System.Net;
using System.Net.Sockets;

namespace OpenWeights.Tune.Distributed.Channel;

/// <summary>The channel of any rank but 0: a connection to rank 0.</summary>
internal sealed class RankMember : RankChannel
{
    private readonly RankConnection _connection;
    private readonly RankHello _self;
    private readonly Dictionary<long, string[]> _texts = [];
    private readonly ManualResetEventSlim _leaving = new();
    private bool _hubLeft;

    private RankMember(RankConnection connection, RankHello self, RankLimits limits, RankActivity activity, string[] hosts)
        : base(limits, activity)
    {
        (_connection, _self, Hosts) = (connection, self, hosts);
        Start("rank channel", Read);
        Start("rank heartbeat", Beat);
    }

    internal override int Rank => _self.Rank;

    /// <summary>Connects to rank 0 and waits until all ranks have.</summary>
    /// <param name="self">This rank.</param>
    /// <param name="addresses">Where rank 0 may be reached; each is tried in turn.</param>
    /// <param name="limits">How long to wait.</param>
    /// <param name="activity">What this rank does.</param>
    /// <exception cref="RankFailedException">Rank 0 is not there in time, or refuses.</exception>
    internal static RankMember Join(RankHello self, IReadOnlyList<DnsEndPoint> addresses, RankLimits limits, RankActivity activity)
    {
        var (until, reason, pause) = (Environment.TickCount64 + (long)limits.Start.TotalMilliseconds, "nothing listens there", 50);
        while (true)
        {
            foreach (var address in addresses)
            {
                try
                {
                    if (Connect(address, limits) is { } connection)
                    {
                        return Greet(connection, self, limits, activity);
                    }

                    reason = "nothing answers there";
                }
                catch (SocketException e)
                {
                    // Rank 0 may not have started yet, and its name may not be known yet.
                    reason = e.SocketErrorCode switch
                    {
                        SocketError.ConnectionRefused => "nothing listens there",
                        SocketError.HostNotFound or SocketError.NoData or SocketError.TryAgain => $"no address is known for {address.Host}",
                        _ => e.Message,
                    };
                }
                catch (NotOurRunException e)
                {
                    reason = e.Message;
                }
            }

            if (Environment.TickCount64 > until)
            {
                throw new RankFailedException(
                    $"rank {self.Rank} ({self.Host}) cannot reach rank 0 at {string.Join(", ", addresses.Select(static a => $"{a.Host}:{a.Port}"))} for {limits.Start.TotalSeconds:0} s: {reason}. Start rank 0 too, and let this port pass between the machines.");
            }

            Thread.Sleep(pause);
            pause = Math.Min(pause * 2, 1000);
        }
    }

    internal override void End(string sentence)
    {
        lock (Telling)
        {
            _ = SetFailure(sentence) && _connection.TrySend(RankMessage.Failed, sentence);
        }
    }

    internal override void Leave()
    {
        if (!IsLeaving)
        {
            IsLeaving = true;
            _ = Failure is null && _connection.TrySend(RankMessage.Bye, Activity.Read().Write());
        }
    }

    public override void Dispose()
    {
        Leave();
        _leaving.Set();
        FinishTelling();
        _connection.Dispose();
    }

    internal override void ReportStuck(long number)
    {
        _ = _connection.TrySend(RankMessage.Stuck, $"{number}");
        _ = Failed.WaitHandle.WaitOne(TimeSpan.FromSeconds(10));
        ThrowIfFailed();
        throw new RankFailedException($"{Name(Rank)} waited {Limits.Operation.TotalSeconds:0} s for {Activity.Read().Operation(number) ?? "an operation"}, and {Name(0)} does not say why.");
    }

    private protected override IReadOnlyList<string> Exchange(long number, string text, bool isPatient)
    {
        if (!_connection.TrySend(RankMessage.Text, $"{number}\n{text}"))
        {
            HubIsGone();
        }

        // Rank 0 says who is missing; this rank waits a little longer than that takes.
        var until = Environment.TickCount64 + (long)(Limits.Operation + (2 * Limits.Silence)).TotalMilliseconds;
        lock (_texts)
        {
            while (true)
            {
                if (_texts.Remove(number, out var texts))
                {
                    return texts;
                }

                ThrowIfFailed();
                if (_hubLeft)
                {
                    HubIsGone();
                }

                if (!isPatient && Environment.TickCount64 > until)
                {
                    throw new RankFailedException($"{Name(0)} did not answer an exchange for {Limits.Operation.TotalSeconds:0} s.");
                }

                _ = Monitor.Wait(_texts, 200);
            }
        }
    }

    private static RankConnection? Connect(DnsEndPoint address, RankLimits limits)
    {
        const int milliseconds = 3000;
        var found = IPAddress.TryParse(address.Host, out var number) ? [number] : Dns.GetHostAddresses(address.Host);
        foreach (var one in found)
        {
            var socket = new Socket(one.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
            try
            {
                if (socket.ConnectAsync(one, address.Port).Wait(milliseconds))
                {
                    return new RankConnection(socket, limits.Silence);
                }
            }
            catch (AggregateException e) when (e.InnerException is SocketException inner && one.Equals(found[^1]))
            {
                socket.Dispose();
                throw inner;
            }
            catch (AggregateException)
            {
                // The next address.
            }

            socket.Dispose();
        }

        return null;
    }

    // Rank 0 answers once all have joined.
    private static RankMember Greet(RankConnection connection, RankHello self, RankLimits limits, RankActivity activity)
    {
        try
        {
            connection.SendHello(self.Write());
            connection.LimitReceiving(limits.Start + limits.Silence);
            while (connection.Receive() is var (message, text))
            {
                switch (message)
                {
                    case RankMessage.Welcome:
                        connection.LimitReceiving(TimeSpan.Zero);
                        return new RankMember(connection, self, limits, activity, text.Split('\n'));
                    case RankMessage.Failed:
                        throw new RankFailedException(text);
                    case RankMessage.Refused when text.StartsWith('!'):
                        throw new RankFailedException(text[1..]);
                    case RankMessage.Refused:
                        throw new NotOurRunException(text);
                }
            }
        }
        catch (Exception e) when (e is SocketException or InvalidDataException)
        {
            connection.Dispose();
            throw new NotOurRunException("what listens there closed the connection, or is no rank 0");
        }
        catch (Exception)
        {
            connection.Dispose();
            throw;
        }

        connection.Dispose();
        throw new NotOurRunException("what listens there closed the connection, or is no rank 0");
    }

    private void Read()
    {
        try
        {
            while (_connection.Receive() is var (message, text))
            {
                switch (message)
                {
                    case RankMessage.Texts:
                        lock (_texts)
                        {
                            var parts = RankTexts.Parse(text, out var number);
                            _texts[number] = parts;
                            Monitor.PulseAll(_texts);
                        }

                        break;
                    case RankMessage.Failed:
                        _ = SetFailure(text);
                        _connection.EndSending();
                        return;
                    case RankMessage.Bye:
                        // Rank 0 is done, and so are all others: nobody waits for anything any more.
                        lock (_texts)
                        {
                            _hubLeft = true;
                            Monitor.PulseAll(_texts);
                        }

                        _connection.EndSending();
                        return;
                }
            }
        }
        catch (Exception e) when (e is SocketException or InvalidDataException or ObjectDisposedException or FormatException)
        {
            // The same as an end.
        }

        if (!IsLeaving)
        {
            _ = SetFailure(Gone);
        }
    }

    private string Gone => $"{Name(0)} ended without a word: its process was killed or crashed, or its machine is gone.";

    private string HubLeft => $"{Name(0)} ended its run, while {Name(Rank)} still waits for it.";

    private void HubIsGone()
    {
        // Why may be on its way.
        _ = Failed.WaitHandle.WaitOne(TimeSpan.FromSeconds(1));
        ThrowIfFailed();
        throw new RankFailedException(_hubLeft ? HubLeft : Gone);
    }

    private void Beat()
    {
        while (!_leaving.Wait(Limits.Heartbeat) && Failure is null)
        {
            if (_hubLeft)
            {
                // All others have left too, so that nobody will come to what this rank waits for.
                _ = Activity.Read() is { Awaited: > 0 } state && state.Seconds >= Limits.Heartbeat.TotalSeconds && SetFailure(HubLeft);
                continue;
            }

            Activity.Look();
            _ = _connection.TrySend(RankMessage.Alive, Activity.Read().Write());
            if (StoodStill())
            {
                _connection.LastHeard = Environment.TickCount64;
            }
            else if (Environment.TickCount64 - _connection.LastHeard > Limits.Silence.TotalMilliseconds)
            {
                _ = SetFailure($"{Name(0)} gave no sign of life for {Limits.Silence.TotalSeconds:0} s: it is stopped, or the network between {Hosts[0]} and {_self.Host} is down.");
            }
        }
    }

    /// <summary>What listens at the address is not rank 0 of this run.</summary>
    private sealed class NotOurRunException(string message) : Exception(message);
}
