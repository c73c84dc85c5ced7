namespace OpenWeights.Tune.Training.Ranks;

/// <summary>
/// Tensors one after the other in a flat buffer of one part for each rank, or, for what needs whole tensors, of which each belongs to one rank. Tensors and parts begin at whole
/// blocks.
/// </summary>
internal sealed class UnitLayout
{
    /// <summary>Elements of a block: whole blocks of quantised weights and of 8-bit optimizer state.</summary>
    internal const long Block = 2048;

    private readonly long[] _counts;
    private readonly long[] _offsets;
    private readonly IReadOnlyList<int>? _owners;

    /// <summary>Lays out tensors.</summary>
    /// <param name="counts">Number of elements of each.</param>
    /// <param name="ranks">Number of ranks.</param>
    /// <param name="owners">The rank to which each belongs; null to cut the buffer into parts of the same length.</param>
    internal UnitLayout(IEnumerable<long> counts, int ranks, IReadOnlyList<int>? owners = null)
    {
        _owners = owners;
        _counts = [.. counts];
        _offsets = new long[_counts.Length];
        var length = 0L;
        for (var i = 0; i < _counts.Length; i++)
        {
            _offsets[i] = length;
            length += Whole(_counts[i]);
        }

        (Ranks, PartLength) = (ranks, Whole((length + ranks - 1) / ranks));
        Length = owners is null ? PartLength * ranks : length;
    }

    /// <summary>Number of ranks.</summary>
    internal int Ranks { get; }

    /// <summary>Whether tensors belong to ranks as wholes.</summary>
    internal bool IsDealt => _owners is not null;

    /// <summary>Elements of a rank's part, where the buffer is cut.</summary>
    internal long PartLength { get; }

    /// <summary>Elements of the buffer.</summary>
    internal long Length { get; }

    /// <summary>Number of tensors.</summary>
    internal int Count => _counts.Length;

    /// <summary>First element of a tensor in the buffer.</summary>
    /// <param name="tensor">Index of the tensor.</param>
    internal long Offset(int tensor) => _offsets[tensor];

    /// <summary>The rank to which a tensor belongs as a whole.</summary>
    /// <param name="tensor">Index of the tensor.</param>
    internal int OwnerOf(int tensor) => _owners![tensor];

    /// <summary>The pieces of tensors in a rank's part, in order.</summary>
    /// <param name="rank">The rank.</param>
    internal IEnumerable<UnitPiece> PiecesOf(int rank)
    {
        if (_owners is not null)
        {
            var place = 0L;
            for (var i = 0; i < _counts.Length; i++)
            {
                if (_owners[i] == rank)
                {
                    yield return new UnitPiece(i, 0, _counts[i], place);
                    place += _counts[i];
                }
            }

            yield break;
        }

        var (first, end) = (rank * PartLength, (rank + 1) * PartLength);
        for (var i = 0; i < _counts.Length; i++)
        {
            var (from, to) = (Math.Max(first, _offsets[i]), Math.Min(end, _offsets[i] + _counts[i]));
            if (from < to)
            {
                yield return new UnitPiece(i, from - _offsets[i], to - from, from - first);
            }
        }
    }

    private static long Whole(long count) => (count + Block - 1) / Block * Block;
}

/// <summary>A piece of a tensor in a rank's part.</summary>
/// <param name="Tensor">Index of the tensor.</param>
/// <param name="Start">First element within the tensor.</param>
/// <param name="Count">Number of elements.</param>
/// <param name="Place">First element within the part.</param>
internal readonly record struct UnitPiece(int Tensor, long Start, long Count, long Place);
