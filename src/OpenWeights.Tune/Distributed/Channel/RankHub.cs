using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace OpenWeights.Tune.Distributed.Channel;

/// <summary>
/// The channel of rank 0, to which all others connect: it hands on texts, and finds who died, hangs or does something else than the others.
/// Whatever else connects to its port is turned away.
/// </summary>
internal sealed class RankHub : RankChannel
{
    private static readonly TimeSpan s_greeting = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan s_farewell = TimeSpan.FromSeconds(1);

    private readonly RankHello _self;
    private readonly Socket _listener;
    private readonly Member?[] _members;
    private readonly Dictionary<long, Gathering> _gatherings = [];
    private readonly Lock _joining = new();
    private readonly ManualResetEventSlim _complete = new();
    private readonly ManualResetEventSlim _leaving = new();
    private string? _refusal;

    private RankHub(RankHello self, Socket listener, RankLimits limits, RankActivity activity)
        : base(limits, activity)
    {
        (_self, _listener, _members) = (self, listener, new Member?[self.Size]);
        Start("rank listener", Accept);
    }

    internal override int Rank => 0;

    /// <summary>The port that this rank listens at.</summary>
    internal int Port => ((IPEndPoint)_listener.LocalEndPoint!).Port;

    /// <summary>Begins to listen.</summary>
    /// <param name="self">This rank.</param>
    /// <param name="port">The port; 0 for a free one.</param>
    /// <param name="limits">How long to wait.</param>
    /// <param name="activity">What this rank does.</param>
    /// <exception cref="RankFailedException">The port is taken.</exception>
    internal static RankHub Listen(RankHello self, int port, RankLimits limits, RankActivity activity)
    {
        Socket? listener = null;
        try
        {
            listener = Socket.OSSupportsIPv6 ? new Socket(AddressFamily.InterNetworkV6, SocketType.Stream, ProtocolType.Tcp) { DualMode = true } : new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            listener.Bind(new IPEndPoint(Socket.OSSupportsIPv6 ? IPAddress.IPv6Any : IPAddress.Any, port));
            listener.Listen(1024);
            return new RankHub(self, listener, limits, activity);
        }
        catch (SocketException e)
        {
            listener?.Dispose();
            throw new RankFailedException($"rank 0 ({self.Host}) cannot listen at port {port}: {e.Message}. Another run may use it: set {RankEnvironment.MasterPortVariable} to another port on all machines.", e);
        }
    }

    /// <summary>Waits until all ranks have joined.</summary>
    /// <exception cref="RankFailedException">A rank did not come in time, or does not fit.</exception>
    internal void WaitForAll()
    {
        if (_self.Size > 1)
        {
            _ = WaitHandle.WaitAny([_complete.WaitHandle, Failed.WaitHandle], Limits.Start);
        }

        ThrowIfFailed();
        if (_self.Size > 1 && !_complete.IsSet)
        {
            int[] missing;
            lock (_joining)
            {
                missing = [.. Enumerable.Range(1, _self.Size - 1).Where(r => _members[r] is null)];
            }

            End($"{(missing.Length == 1 ? $"rank {missing[0]}" : $"ranks {string.Join(", ", missing.Take(16))}{(missing.Length > 16 ? ", ..." : "")}")} of {_self.Size} did not come to rank 0 ({_self.Host}, port {Port}) within {Limits.Start.TotalSeconds:0} s{(_refusal is null ? ": start them too, and let this port pass between the machines" : $"; turned away was {_refusal}")}.");
            ThrowIfFailed();
        }

        Hosts = [_self.Host, .. _members.Skip(1).Select(static m => m!.Hello.Host)];
        foreach (var member in Members)
        {
            member.Connection.LastHeard = Environment.TickCount64;
            _ = member.Connection.TrySend(RankMessage.Welcome, string.Join('\n', Hosts));
            Start("rank channel", () => Read(member));
        }

        Start("rank heartbeat", Beat);
    }

    internal override void End(string sentence)
    {
        lock (Telling)
        {
            if (SetFailure(sentence))
            {
                foreach (var member in Members)
                {
                    _ = member.Connection.TrySend(RankMessage.Failed, sentence);
                }
            }
        }
    }

    internal override void Leave() => IsLeaving = true;

    public override void Dispose()
    {
        Leave();

        // The others end at about the same time; until then this rank is there for them, and long enough to notice one that waits for this one.
        var until = Environment.TickCount64 + (long)Math.Max(5000, 4 * Limits.Heartbeat.TotalMilliseconds);
        while (Failure is null && Hosts.Count > 0 && Members.Any(static m => !m.HasLeft) && Environment.TickCount64 < until)
        {
            Thread.Sleep(5);
        }

        _leaving.Set();
        _listener.Dispose();
        FinishTelling();
        foreach (var member in Members)
        {
            _ = Failure is null && member.Connection.TrySend(RankMessage.Bye, "");
            member.Connection.EndSending();
        }

        until = Environment.TickCount64 + (long)s_farewell.TotalMilliseconds;
        foreach (var member in Members)
        {
            _ = member.HasEnded.Wait((int)Math.Max(0, until - Environment.TickCount64));
            member.Connection.Dispose();
        }
    }

    internal override void ReportStuck(long number)
    {
        Stuck(number, 0);
        ThrowIfFailed();
    }

    private protected override IReadOnlyList<string> Exchange(long number, string text, bool isPatient)
    {
        Gather(number, 0, text);
        var until = Environment.TickCount64 + (long)Limits.Operation.TotalMilliseconds;
        while (true)
        {
            lock (_gatherings)
            {
                if (_gatherings.TryGetValue(number, out var gathering) && gathering.All is { } all)
                {
                    _ = _gatherings.Remove(number);
                    return all;
                }

                _ = Monitor.Wait(_gatherings, 200);
            }

            ThrowIfFailed();
            if (!isPatient && Environment.TickCount64 > until)
            {
                ReportStuck(number);
            }
        }
    }

    private IEnumerable<Member> Members
    {
        get
        {
            lock (_joining)
            {
                return [.. _members.OfType<Member>()];
            }
        }
    }

    private void Accept()
    {
        while (true)
        {
            Socket socket;
            try
            {
                socket = _listener.Accept();
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                if (IsLeaving || _leaving.IsSet)
                {
                    return;
                }

                Thread.Sleep(20);
                continue;
            }

            // Who says nothing does not keep the others waiting.
            Start("rank greeting", () => Greet(new RankConnection(socket, Limits.Silence)));
        }
    }

    private void Greet(RankConnection connection)
    {
        try
        {
            if (connection.ReceiveHello(s_greeting) is not { } text || RankHello.Parse(text) is not { } hello)
            {
                connection.Dispose();
                return;
            }

            if (Refusal(hello) is { } refusal)
            {
                _refusal = $"rank {hello.Rank} of {hello.Host} ({refusal.TrimStart('!')})";
                _ = connection.TrySend(RankMessage.Refused, refusal);
                connection.Dispose();
                return;
            }

            if (hello.Version != _self.Version)
            {
                End($"rank {hello.Rank} ({hello.Host}) runs owt {hello.Version}, and rank 0 ({_self.Host}) runs {_self.Version}: use the same version on all machines.");
            }

            lock (_joining)
            {
                // A process that was started again takes the place of the one before, until all have come.
                if (!_complete.IsSet && _members[hello.Rank] is null or { Connection.IsClosed: true })
                {
                    _members[hello.Rank]?.Connection.Dispose();
                    _members[hello.Rank] = new Member(hello, connection);
                    connection = null!;
                    if (_members.Skip(1).All(static m => m is not null))
                    {
                        _complete.Set();
                    }
                }
            }

            if (Failure is { } failure && Members.FirstOrDefault(m => m.Hello.Rank == hello.Rank) is { } late)
            {
                _ = late.Connection.TrySend(RankMessage.Failed, failure);
            }
        }
        finally
        {
            connection?.Dispose();
        }
    }

    // Null for a rank of this run. What begins with ! can only be a mistake of this run's start, and waiting does not help.
    private string? Refusal(RankHello hello)
    {
        if (hello.Token != _self.Token)
        {
            return "another run listens there";
        }

        if (hello.Size != _self.Size)
        {
            return $"!rank {hello.Rank} ({hello.Host}) was started as one of {hello.Size} ranks, and rank 0 ({_self.Host}) as one of {_self.Size}: start all with the same number.";
        }

        lock (_joining)
        {
            return hello.Rank < 1 || hello.Rank >= _self.Size || (_members[hello.Rank] is { } other && (_complete.IsSet || !other.Connection.IsClosed))
                ? $"!rank {hello.Rank} ({hello.Host}) is there twice{(hello.Rank >= 1 && hello.Rank < _self.Size ? $", the other on {_members[hello.Rank]!.Hello.Host}" : $": rank 0 is {_self.Host}")}. Give each process its own number, or this run another port ({RankEnvironment.MasterPortVariable})."
                : null;
        }
    }

    private void Read(Member member)
    {
        var rank = member.Hello.Rank;
        try
        {
            while (member.Connection.Receive() is var (message, text))
            {
                switch (message)
                {
                    case RankMessage.Text:
                        var end = text.IndexOf('\n', StringComparison.Ordinal);
                        Gather(long.Parse(text.AsSpan(0, end), CultureInfo.InvariantCulture), rank, text[(end + 1)..]);
                        break;
                    case RankMessage.Alive:
                        member.State = RankState.Parse(text) ?? member.State;
                        break;
                    case RankMessage.Stuck:
                        Stuck(long.Parse(text, CultureInfo.InvariantCulture), rank);
                        break;
                    case RankMessage.Failed:
                        member.HasLeft = true;
                        End(text);
                        break;
                    case RankMessage.Bye:
                        member.State = RankState.Parse(text) ?? member.State;
                        member.HasLeft = true;
                        break;
                }
            }
        }
        catch (Exception e) when (e is SocketException or InvalidDataException or ObjectDisposedException or FormatException or ArgumentException)
        {
            // The same as an end.
        }

        if (!member.HasLeft && !_leaving.IsSet)
        {
            End($"{Name(rank)} ended without a word: its process was killed or crashed, or its machine is gone.");
        }

        member.HasLeft = true;
        member.HasEnded.Set();
    }

    private void Gather(long number, int rank, string text)
    {
        string[]? all;
        lock (_gatherings)
        {
            if (!_gatherings.TryGetValue(number, out var gathering))
            {
                _gatherings[number] = gathering = new Gathering(_self.Size);
            }

            all = gathering.Add(rank, text);
            Monitor.PulseAll(_gatherings);
        }

        if (all is not null)
        {
            var written = RankTexts.Write(number, all);
            foreach (var member in Members)
            {
                _ = member.Connection.TrySend(RankMessage.Texts, written);
            }
        }
    }

    private void Beat()
    {
        while (!_leaving.Wait(Limits.Heartbeat) && Failure is null)
        {
            var stoodStill = StoodStill();
            Activity.Look();
            foreach (var member in Members.Where(static m => !m.HasLeft))
            {
                _ = member.Connection.TrySend(RankMessage.Alive, "");
                if (stoodStill)
                {
                    member.Connection.LastHeard = Environment.TickCount64;
                }
                else if (Environment.TickCount64 - member.Connection.LastHeard > Limits.Silence.TotalMilliseconds)
                {
                    End($"{Name(member.Hello.Rank)} gave no sign of life for {Limits.Silence.TotalSeconds:0} s: it is stopped, or the network between {Hosts[0]} and {member.Hello.Host} is down.");
                }
            }

            if ((RankStates.Disagreement(States, Limits.Heartbeat, Name) ?? RankStates.Stall(States, Limits, Name)) is { } sentence)
            {
                End(sentence);
            }
        }
    }

    private IReadOnlyList<(RankState State, bool HasLeft)> States => [(Activity.Read(), IsLeaving), .. Members.OrderBy(static m => m.Hello.Rank).Select(static m => (m.State, m.HasLeft))];

    private void Stuck(long number, int reporter) => End(RankStates.Blame(States, number, reporter, Limits.Operation, Name));

    private sealed class Member(RankHello hello, RankConnection connection)
    {
        internal RankHello Hello => hello;

        internal RankConnection Connection => connection;

        internal RankState State { get; set; } = new(0, 0, 0, []);

        internal bool HasLeft { get; set; }

        /// <summary>Set when nothing more is read from its connection.</summary>
        internal ManualResetEventSlim HasEnded { get; } = new();
    }

    private sealed class Gathering(int size)
    {
        private readonly string?[] _texts = new string?[size];
        private int _count;

        internal string[]? All { get; private set; }

        internal string[]? Add(int rank, string text)
        {
            _texts[rank] = text;
            return ++_count == _texts.Length ? All = [.. _texts.OfType<string>()] : null;
        }
    }
}
