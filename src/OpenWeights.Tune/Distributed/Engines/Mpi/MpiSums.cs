using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Distributed.Engines.Mpi;

/// <summary>
/// Sums. Each rank receives its part of the other ranks' values, in pieces, and adds them in the order of ranks: the traffic of a
/// reduce-scatter, and the same bits for any MPI and network. For all-reduce each piece of a sum goes to the others at once.
/// </summary>
internal sealed unsafe class MpiSum : MpiOperation
{
    // Pieces under way at a time between two ranks.
    private const int Window = 4;

    // Of so few bytes every rank sends all of its values to all, and adds them itself: one message's time instead of two.
    private const int FewBytes = 1 << 14;

    private readonly ScalarType _dtype;
    private readonly nint _values;
    private readonly long _partBytes;
    private readonly long _totalBytes;
    private readonly nint _part;
    private readonly bool _isForAll;
    private readonly InOrder _sums;
    private MpiTransfers? _results;
    private nint _received;
    private long _unfinished;
    private long _next;

    private MpiSum(MpiGroup group, ScalarType dtype, nint values, long totalBytes, nint part, long partBytes, bool isForAll)
        : base(group)
    {
        (_dtype, _values, _totalBytes, _part, _partBytes, _isForAll) = (dtype, values, totalBytes, part, partBytes, isForAll);
        _sums = new InOrder(Pieces(group.Rank), SendSum);
    }

    /// <summary>Length of a piece, in bytes; tests set less.</summary>
    internal static int PieceBytes { get; set; } = 1 << 19;

    internal override bool IsDone => _unfinished == 0 && Transfers.IsEmpty && _results?.IsEmpty != false;

    /// <summary>The sum of all ranks' values, for all, in their place.</summary>
    internal static MpiSum ForAll(MpiGroup group, ScalarType dtype, nint values, long bytes, int elementSize)
    {
        var part = ((bytes / elementSize) + group.Size - 1) / group.Size * elementSize;
        return new MpiSum(group, dtype, values, bytes, 0, part, isForAll: true);
    }

    /// <summary>This rank's part of the sum.</summary>
    internal static MpiSum Scattered(MpiGroup group, ScalarType dtype, nint values, nint part, long partBytes) =>
        new(group, dtype, values, partBytes * group.Size, part, partBytes, isForAll: false);

    internal override bool Advance() => Transfers.Advance() | (_results?.Advance() ?? false);

    internal override void Free()
    {
        NativeMemory.Free((void*)_received);
        _received = 0;
    }

    protected override void Start(int tag)
    {
        if (_isForAll && _totalBytes <= FewBytes)
        {
            StartFew();
            return;
        }

        // Pieces of this rank's part are received and added; pieces of the others' parts are sent to them.
        _results = new MpiTransfers(Group.Mpi, tag + 1);
        _received = Allocate(Window * PieceBytes * (long)(Group.Size - 1));
        _unfinished = Pieces(Group.Rank);
        while (_next < Math.Min(Window, Pieces(Group.Rank)))
        {
            ReceivePiece(_next, (int)_next);
            _next++;
        }

        foreach (var other in Group.Others)
        {
            new Peer(this, other).Start();
        }
    }

    private void StartFew()
    {
        _received = Allocate(_totalBytes * (Group.Size - 1));
        _unfinished = 2L * (Group.Size - 1);
        var slot = 0;
        var sources = new nint[Group.Size];
        sources[Group.Rank] = _values;
        foreach (var other in Enumerable.Range(0, Group.Size).Where(r => r != Group.Rank))
        {
            sources[other] = _received + (nint)(slot++ * _totalBytes);
        }

        foreach (var other in Group.Others)
        {
            Transfers.Receive(sources[other], _totalBytes, other, Count);
            Transfers.Send(_values, _totalBytes, other, Count);
        }

        void Count()
        {
            if (--_unfinished == 0)
            {
                Add(sources, _values, _totalBytes);
            }
        }
    }

    // Into one of the buffers of as many pieces as are under way.
    private void ReceivePiece(long piece, int buffer)
    {
        var (own, bytes) = Piece(Group.Rank, piece);
        var sources = new nint[Group.Size];
        sources[Group.Rank] = own;
        var (missing, slot) = (Group.Size - 1, (long)buffer * (Group.Size - 1));
        foreach (var other in Enumerable.Range(0, Group.Size).Where(r => r != Group.Rank))
        {
            sources[other] = _received + (nint)(slot++ * PieceBytes);
            Transfers.Receive(sources[other], bytes, other, () =>
            {
                if (--missing == 0)
                {
                    AddPiece(sources, piece, buffer, own, bytes);
                }
            });
        }
    }

    private void AddPiece(nint[] sources, long piece, int buffer, nint own, long bytes)
    {
        Add(sources, _isForAll ? own : _part + (nint)(piece * PieceBytes), bytes);
        _unfinished--;
        if (_isForAll)
        {
            _sums.Done(piece);
        }

        if (_next < Pieces(Group.Rank))
        {
            // Pieces come in any order, so this one's buffer is the one that is free.
            ReceivePiece(_next++, buffer);
        }
    }

    private void SendSum(long piece)
    {
        var (at, bytes) = Piece(Group.Rank, piece);
        foreach (var other in Group.Others)
        {
            _results!.Send(at, bytes, other);
        }
    }

    private long Length(int rank) => Math.Clamp(_totalBytes - (rank * _partBytes), 0, _partBytes);

    private long Pieces(int rank) => (Length(rank) + PieceBytes - 1) / PieceBytes;

    private (nint At, long Bytes) Piece(int rank, long piece)
    {
        var start = piece * PieceBytes;
        return (_values + (nint)((rank * _partBytes) + start), Math.Min(PieceBytes, Length(rank) - start));
    }

    private void Add(nint[] sources, nint target, long bytes)
    {
        fixed (nint* first = sources)
        {
            RankSum.Add(_dtype, first, Group.Size, target, bytes);
        }
    }

    private static nint Allocate(long bytes) => (nint)NativeMemory.Alloc((nuint)Math.Max(1, bytes));

    /// <summary>Another rank's part: its pieces are sent to that rank, and its sums come back into the same memory.</summary>
    private sealed class Peer
    {
        private readonly MpiSum _sum;
        private readonly int _rank;
        private readonly InOrder _sent;
        private long _next;

        internal Peer(MpiSum sum, int rank) => (_sum, _rank, _sent) = (sum, rank, new InOrder(sum.Pieces(rank), ReceiveSum));

        internal void Start()
        {
            for (var i = 0; i < Window; i++)
            {
                SendNext();
            }
        }

        private void SendNext()
        {
            if (_next < _sum.Pieces(_rank))
            {
                var piece = _next++;
                var (at, bytes) = _sum.Piece(_rank, piece);
                _sum.Transfers.Send(at, bytes, _rank, _sum._isForAll ? () => _sent.Done(piece) : SendNext);
            }
        }

        private void ReceiveSum(long piece)
        {
            var (at, bytes) = _sum.Piece(_rank, piece);
            _sum._results!.Receive(at, bytes, _rank, SendNext);
        }
    }

    /// <summary>Messages between two ranks are told apart by their order alone: what is done in any order goes on in its own.</summary>
    private sealed class InOrder(long count, Action<long> goOn)
    {
        private readonly bool[] _isDone = new bool[count];
        private long _next;

        internal void Done(long number)
        {
            _isDone[number] = true;
            while (_next < _isDone.Length && _isDone[_next])
            {
                goOn(_next++);
            }
        }
    }
}
