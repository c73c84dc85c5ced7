using System.Numerics;
using System.Runtime.CompilerServices;

namespace OpenWeights.Tokenizers;

/// <summary>
/// The merges of a BPE model: which pairs of neighbouring symbols merge, how early, and into what. Most pairs that are asked for do
/// not merge; a byte of each pair's hash beside its number answers that without a second look.
/// </summary>
internal sealed class PairTable
{
    private const int NumberBits = 24;
    private const int NumberMask = (1 << NumberBits) - 1;

    private int[] _lefts;
    private int[] _rights;
    private int[] _merged;
    private int[]? _ranks;
    private uint[] _slots = [];
    private int _mask;
    private int _shift;

    /// <summary>Creates a table with room for a number of merges.</summary>
    public PairTable(int capacity)
    {
        _lefts = new int[Math.Max(16, capacity)];
        _rights = new int[_lefts.Length];
        _merged = new int[_lefts.Length];
    }

    /// <summary>Number of merges.</summary>
    public int Count { get; private set; }

    /// <summary>Adds a merge that comes after all those before.</summary>
    public void Add(int left, int right, int merged)
    {
        if (Count == _lefts.Length)
        {
            Array.Resize(ref _lefts, Count * 2);
            Array.Resize(ref _rights, Count * 2);
            Array.Resize(ref _merged, Count * 2);
        }

        _lefts[Count] = left;
        _rights[Count] = right;
        _merged[Count] = merged;
        Count++;
    }

    /// <summary>Ends the adding.</summary>
    /// <param name="ranks">The ranks of the merges, where some are equal; null where each merge's rank is its number.</param>
    /// <exception cref="ArgumentException">There are more merges than 2^24 - 2.</exception>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public PairTable Complete(int[]? ranks = null)
    {
        if (Count >= NumberMask)
        {
            throw new ArgumentException($"{Count} merges are too many.");
        }

        _ranks = ranks;
        var size = (int)BitOperations.RoundUpToPowerOf2((uint)Math.Max(16, Count * 2));
        _slots = new uint[size];
        _mask = size - 1;
        _shift = 64 - BitOperations.Log2((uint)size);
        for (var number = 0; number < Count; number++)
        {
            var hash = Hash(_lefts[number], _rights[number]);
            var i = (int)(hash >> _shift);
            while (_slots[i] != 0 && !Matches((int)(_slots[i] & NumberMask) - 1, _lefts[number], _rights[number]))
            {
                i = (i + 1) & _mask;
            }

            // A pair that is listed again takes the later rank, as in the reference.
            _slots[i] = (Tag(hash) << NumberBits) | (uint)(number + 1);
        }

        return this;
    }

    /// <summary>The pair of a merge.</summary>
    public (int Left, int Right) Pair(int number) => (_lefts[number], _rights[number]);

    /// <summary>The result of merging a pair.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public int Merged(int number) => _merged[number];

    /// <summary>The rank of a pair, smaller ones merge earlier; <see cref="int.MaxValue"/> where it does not merge.</summary>
    /// <param name="left">The left symbol.</param>
    /// <param name="right">The right symbol.</param>
    /// <param name="number">The number of the merge.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public int Find(int left, int right, out int number)
    {
        var hash = Hash(left, right);
        var tag = Tag(hash);
        var slots = _slots;
        for (var i = (int)(hash >> _shift); ; i = (i + 1) & _mask)
        {
            var slot = slots[i];
            if (slot == 0)
            {
                number = -1;
                return int.MaxValue;
            }

            if (slot >> NumberBits == tag)
            {
                number = (int)(slot & NumberMask) - 1;
                if (Matches(number, left, right))
                {
                    return _ranks is null ? number : _ranks[number];
                }
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Hash(int left, int right)
    {
        var key = ((ulong)(uint)left << 32) | (uint)right;
        key = (key ^ (key >> 29)) * 0x9E3779B97F4A7C15UL;
        return key ^ (key >> 32);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Tag(ulong hash) => (byte)hash;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool Matches(int number, int left, int right) => _lefts[number] == left && _rights[number] == right;
}
