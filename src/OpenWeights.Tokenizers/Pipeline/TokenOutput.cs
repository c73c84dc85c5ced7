namespace OpenWeights.Tokenizers;

/// <summary>The ids that an encoding has made so far and, where asked for, the range of each.</summary>
internal sealed class TokenOutput
{
    private int[] _ids = new int[256];
    private int[] _starts = [];
    private int[] _ends = [];

    /// <summary>Tokens so far.</summary>
    public int Count { get; private set; }

    /// <summary>Whether ranges are kept.</summary>
    public bool HasRanges { get; private set; }

    /// <summary>The ids.</summary>
    public ReadOnlySpan<int> Ids => _ids.AsSpan(0, Count);

    /// <summary>The first unit of each token's range; only with <see cref="HasRanges"/>.</summary>
    public Span<int> Starts => _starts.AsSpan(0, Count);

    /// <summary>The unit after each token's range; only with <see cref="HasRanges"/>.</summary>
    public Span<int> Ends => _ends.AsSpan(0, Count);

    public void Clear(bool withRanges)
    {
        Count = 0;
        HasRanges = withRanges;
        if (withRanges && _starts.Length < _ids.Length)
        {
            _starts = new int[_ids.Length];
            _ends = new int[_ids.Length];
        }
    }

    /// <summary>Adds a token.</summary>
    public void Add(int id, int start, int end)
    {
        if (Count == _ids.Length)
        {
            Grow(1);
        }

        _ids[Count] = id;
        if (HasRanges)
        {
            _starts[Count] = start;
            _ends[Count] = end;
        }

        Count++;
    }

    /// <summary>Adds tokens whose ranges are packed as start | end &lt;&lt; 16.</summary>
    public void Add(ReadOnlySpan<int> ids, ReadOnlySpan<int> packedRanges)
    {
        if (Count + ids.Length > _ids.Length)
        {
            Grow(ids.Length);
        }

        if (ids.Length == 1)
        {
            _ids[Count] = ids[0];
        }
        else
        {
            ids.CopyTo(_ids.AsSpan(Count));
        }

        if (HasRanges)
        {
            for (var i = 0; i < packedRanges.Length; i++)
            {
                _starts[Count + i] = packedRanges[i] & 0xFFFF;
                _ends[Count + i] = packedRanges[i] >>> 16;
            }
        }

        Count += ids.Length;
    }

    /// <summary>Moves the ranges of the tokens from <paramref name="first"/> on by <paramref name="offset"/> units.</summary>
    public void Shift(int first, int offset)
    {
        for (var i = first; i < Count; i++)
        {
            _starts[i] += offset;
            _ends[i] += offset;
        }
    }

    private void Grow(int extra)
    {
        var size = (int)Math.Min(Array.MaxLength, Math.Max((long)_ids.Length * 2, (long)Count + extra));
        Array.Resize(ref _ids, size);
        if (HasRanges)
        {
            Array.Resize(ref _starts, size);
            Array.Resize(ref _ends, size);
        }
    }
}
