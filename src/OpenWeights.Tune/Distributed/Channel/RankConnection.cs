using System.Buffers.Binary;
using System.Net.Sockets;
using System.Text;

namespace OpenWeights.Tune.Distributed.Channel;

/// <summary>What a message between rank 0 and another rank is.</summary>
internal enum RankMessage : byte
{
    /// <summary>A rank's first message: who it is.</summary>
    Hello = 1,

    /// <summary>Rank 0's answer once all have joined: the hosts.</summary>
    Welcome,

    /// <summary>Rank 0's answer to one that does not belong here: why.</summary>
    Refused,

    /// <summary>A rank's text of an exchange.</summary>
    Text,

    /// <summary>The texts of all ranks.</summary>
    Texts,

    /// <summary>A sign of life, with what the rank does.</summary>
    Alive,

    /// <summary>A rank waited too long: for which operation.</summary>
    Stuck,

    /// <summary>A rank failed: the sentence.</summary>
    Failed,

    /// <summary>The rank is done, and ends.</summary>
    Bye,
}

/// <summary>Messages over a socket: a byte, a length of four, and text in UTF-8. A connection begins with eight bytes that nothing else sends.</summary>
internal sealed class RankConnection : IDisposable
{
    private const int HeaderSize = 5;
    private const int MaxLength = 1 << 24;
    private const int MaxHello = 1 << 12;

    private readonly Socket _socket;
    private readonly Lock _gate = new();
    private long _lastHeard = Environment.TickCount64;

    internal RankConnection(Socket socket, TimeSpan sendLimit)
    {
        _socket = socket;
        _socket.NoDelay = true;
        _socket.SendTimeout = (int)Math.Max(1000, sendLimit.TotalMilliseconds);
    }

    private static ReadOnlySpan<byte> Magic => "OWTRANK1"u8;

    /// <summary>When something came last, in <see cref="Environment.TickCount64"/>'s milliseconds.</summary>
    internal long LastHeard
    {
        get => Volatile.Read(ref _lastHeard);
        set => Volatile.Write(ref _lastHeard, value);
    }

    /// <summary>Whether the other side has ended the connection, having sent nothing that was not read.</summary>
    internal bool IsClosed
    {
        get
        {
            try
            {
                return _socket.Poll(0, SelectMode.SelectRead) && _socket.Available == 0;
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                return true;
            }
        }
    }

    /// <summary>Sends the first message.</summary>
    internal void SendHello(string text)
    {
        _ = _socket.Send(Magic);
        Send(RankMessage.Hello, text);
    }

    /// <summary>Receives the first message; null if something else connected, or nothing came in time.</summary>
    internal string? ReceiveHello(TimeSpan limit)
    {
        _socket.ReceiveTimeout = (int)limit.TotalMilliseconds;
        Span<byte> magic = stackalloc byte[Magic.Length];
        try
        {
            return Fill(magic) && magic.SequenceEqual(Magic) && Receive(MaxHello) is (RankMessage.Hello, { } text) ? text : null;
        }
        catch (Exception e) when (e is SocketException or InvalidDataException or ObjectDisposedException)
        {
            return null;
        }
        finally
        {
            _socket.ReceiveTimeout = 0;
        }
    }

    /// <summary>Limits how long <see cref="Receive()"/> waits; zero for no limit.</summary>
    internal void LimitReceiving(TimeSpan limit) => _socket.ReceiveTimeout = (int)limit.TotalMilliseconds;

    /// <exception cref="SocketException">The other side is gone, or takes nothing.</exception>
    internal void Send(RankMessage message, string text)
    {
        var length = Encoding.UTF8.GetByteCount(text);
        var bytes = new byte[HeaderSize + length];
        bytes[0] = (byte)message;
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(1), length);
        _ = Encoding.UTF8.GetBytes(text, bytes.AsSpan(HeaderSize));
        lock (_gate)
        {
            for (var sent = 0; sent < bytes.Length;)
            {
                sent += _socket.Send(bytes.AsSpan(sent));
            }
        }
    }

    /// <summary>Sends where the other side may be gone.</summary>
    /// <returns>Whether it was sent.</returns>
    internal bool TrySend(RankMessage message, string text)
    {
        try
        {
            Send(message, text);
            return true;
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            return false;
        }
    }

    /// <summary>The next message, or null at the end of the connection.</summary>
    /// <exception cref="SocketException">The connection broke.</exception>
    /// <exception cref="InvalidDataException">These are no messages.</exception>
    internal (RankMessage Message, string Text)? Receive() => Receive(MaxLength);

    private (RankMessage, string)? Receive(int maxLength)
    {
        Span<byte> header = stackalloc byte[HeaderSize];
        if (!Fill(header))
        {
            return null;
        }

        var length = BinaryPrimitives.ReadInt32LittleEndian(header[1..]);
        if (length < 0 || length > maxLength)
        {
            throw new InvalidDataException($"a message of {length} bytes");
        }

        var bytes = new byte[length];
        if (!Fill(bytes))
        {
            return null;
        }

        LastHeard = Environment.TickCount64;
        return ((RankMessage)header[0], Encoding.UTF8.GetString(bytes));
    }

    private bool Fill(Span<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            var read = _socket.Receive(bytes);
            if (read == 0)
            {
                return false;
            }

            bytes = bytes[read..];
        }

        return true;
    }

    /// <summary>
    /// Says that nothing more will be sent. The connection then lives on until the other side ends it too: closed before all was read, it would be
    /// reset, and what was sent last would not arrive.
    /// </summary>
    internal void EndSending() => Shutdown(SocketShutdown.Send);

    public void Dispose()
    {
        Shutdown(SocketShutdown.Both);
        _socket.Dispose();
    }

    private void Shutdown(SocketShutdown how)
    {
        try
        {
            _socket.Shutdown(how);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The other side was faster.
        }
    }
}
