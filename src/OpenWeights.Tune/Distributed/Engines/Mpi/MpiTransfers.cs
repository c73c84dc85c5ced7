namespace OpenWeights.Tune.Distributed.Engines.Mpi;

/// <summary>Messages under way of one operation. Long ones go in parts, since MPI counts bytes in 31 bits.</summary>
internal sealed unsafe class MpiTransfers(MpiLibrary mpi, int tag)
{
    /// <summary>Longest message, in bytes; tests set less.</summary>
    internal static int MaxBytes { get; set; } = 1 << 30;

    private readonly List<Transfer> _transfers = [];

    /// <summary>Whether nothing is under way.</summary>
    internal bool IsEmpty => _transfers.Count == 0;

    /// <summary>Begins to send.</summary>
    /// <param name="from">First byte.</param>
    /// <param name="bytes">Number of bytes.</param>
    /// <param name="rank">To whom.</param>
    /// <param name="then">Called when the memory may change again.</param>
    internal void Send(nint from, long bytes, int rank, Action? then = null) => Begin(from, bytes, rank, isSend: true, then);

    /// <summary>Begins to receive.</summary>
    /// <param name="to">First byte.</param>
    /// <param name="bytes">Number of bytes.</param>
    /// <param name="rank">From whom.</param>
    /// <param name="then">Called when all has come.</param>
    internal void Receive(nint to, long bytes, int rank, Action? then = null) => Begin(to, bytes, rank, isSend: false, then);

    /// <summary>Looks which are complete. Returns whether any is.</summary>
    internal bool Advance()
    {
        var changed = false;
        for (var i = 0; i < _transfers.Count; i++)
        {
            var transfer = _transfers[i];
            var request = transfer.Request;
            var isDone = mpi.Test(&request);
            transfer.Request = request;
            if (isDone)
            {
                changed = true;
                _transfers.RemoveAt(i--);
                if (--transfer.Whole.Parts == 0)
                {
                    // May begin others, at the end of the list.
                    transfer.Whole.Then?.Invoke();
                }
            }
        }

        return changed;
    }

    private void Begin(nint at, long bytes, int rank, bool isSend, Action? then)
    {
        var whole = new Whole { Parts = (int)((bytes + MaxBytes - 1) / MaxBytes), Then = then };
        for (long start = 0; start < bytes; start += MaxBytes)
        {
            var count = (int)Math.Min(MaxBytes, bytes - start);
            nint request = 0;
            if (isSend)
            {
                mpi.Send((void*)(at + (nint)start), count, rank, tag, &request);
            }
            else
            {
                mpi.Receive((void*)(at + (nint)start), count, rank, tag, &request);
            }

            _transfers.Add(new Transfer(whole) { Request = request });
        }

        if (bytes == 0)
        {
            then?.Invoke();
        }
    }

    private sealed class Whole
    {
        internal int Parts { get; set; }

        internal Action? Then { get; init; }
    }

    private sealed class Transfer(Whole whole)
    {
        internal Whole Whole => whole;

        internal nint Request { get; set; }
    }
}
