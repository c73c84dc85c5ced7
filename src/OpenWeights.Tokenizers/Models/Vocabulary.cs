using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>Tokens and their ids, both ways. The tokens' UTF-8 is stored in one array; a lookup allocates nothing.</summary>
internal sealed class Vocabulary
{
    /// <summary>Ids beyond this are a broken file rather than a large vocabulary.</summary>
    public const int LargestId = (1 << 24) - 1;

    // Ids up to this need no file of a certain length.
    private const int FreeIds = 1 << 18;

    private byte[] _bytes;
    private int _byteCount;
    private Span[] _spans;
    private Slot[] _slots;
    private string?[]? _strings;

    /// <summary>An empty vocabulary with room for <paramref name="tokens"/> tokens.</summary>
    public Vocabulary(int tokens, int bytes)
    {
        _bytes = new byte[Math.Max(16, bytes)];
        _spans = new Span[Math.Max(16, tokens)];
        _slots = new Slot[BitOperations.RoundUpToPowerOf2((uint)Math.Max(16, tokens * 2))];
    }

    private struct Span
    {
        public int Start;
        public int LengthPlusOne;
    }

    private struct Slot
    {
        public uint Hash;
        public int IdPlusOne;
    }

    /// <summary>The largest id that a file of a length can have: the table of ids stays within a multiple of the file.</summary>
    /// <param name="fileLength">The file's length in bytes.</param>
    public static int LargestIdIn(long fileLength) => (int)Math.Min(LargestId, FreeIds + (fileLength / 4));

    /// <summary>Number of tokens.</summary>
    public int Count { get; private set; }

    /// <summary>The largest id plus one.</summary>
    public int Size { get; private set; }

    /// <summary>Adds a token.</summary>
    /// <returns>Null on success; otherwise the conflict: the token's existing id, or the id's existing token.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public string? TryAdd(ReadOnlySpan<byte> token, int id)
    {
        if (id is < 0 or > LargestId)
        {
            return $"the id {id} of the token {Show(token)} is not in 0..{LargestId}";
        }

        if (id < Size && _spans[id].LengthPlusOne > 0)
        {
            return $"the id {id} belongs to two tokens, {Show(this[id])} and {Show(token)}";
        }

        Reserve(token.Length, id);
        var hash = Hash(token);
        var i = hash & ((uint)_slots.Length - 1);
        while (_slots[i].IdPlusOne != 0)
        {
            if (_slots[i].Hash == hash && token.SequenceEqual(this[_slots[i].IdPlusOne - 1]))
            {
                return $"the token {Show(token)} appears twice, with the ids {_slots[i].IdPlusOne - 1} and {id}";
            }

            i = (i + 1) & ((uint)_slots.Length - 1);
        }

        _slots[i] = new Slot { Hash = hash, IdPlusOne = id + 1 };
        Store(token, id);
        return null;
    }

    /// <summary>Adds a token of a list whose tokens may repeat (Unigram): looking the text up finds the last of its ids, as in the reference.</summary>
    public void AddOrReplace(ReadOnlySpan<byte> token, int id)
    {
        Reserve(token.Length, id);
        var hash = Hash(token);
        var i = hash & ((uint)_slots.Length - 1);
        while (_slots[i].IdPlusOne != 0 && !(_slots[i].Hash == hash && token.SequenceEqual(this[_slots[i].IdPlusOne - 1])))
        {
            i = (i + 1) & ((uint)_slots.Length - 1);
        }

        _slots[i] = new Slot { Hash = hash, IdPlusOne = id + 1 };
        Store(token, id);
    }

    /// <summary>The UTF-8 of the token with an id that is taken.</summary>
    public ReadOnlySpan<byte> this[int id] => _bytes.AsSpan(_spans[id].Start, _spans[id].LengthPlusOne - 1);

    /// <summary>Whether some token has this id.</summary>
    public bool Contains(int id) => (uint)id < (uint)Size && _spans[id].LengthPlusOne > 0;

    /// <summary>The id of a token in UTF-8, or -1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public int Find(ReadOnlySpan<byte> token)
    {
        var hash = Hash(token);
        var mask = (uint)_slots.Length - 1;
        for (var i = hash & mask; _slots[i].IdPlusOne != 0; i = (i + 1) & mask)
        {
            if (_slots[i].Hash == hash && token.SequenceEqual(this[_slots[i].IdPlusOne - 1]))
            {
                return _slots[i].IdPlusOne - 1;
            }
        }

        return -1;
    }

    /// <summary>The id of a token, or -1.</summary>
    public int Find(ReadOnlySpan<char> token)
    {
        var most = Encoding.UTF8.GetMaxByteCount(token.Length);
        var bytes = most <= 512 ? stackalloc byte[most] : new byte[most];
        return Find(bytes[..Encoding.UTF8.GetBytes(token, bytes)]);
    }

    /// <summary>The token with an id, or null.</summary>
    public string? Token(int id)
    {
        if (!Contains(id))
        {
            return null;
        }

        // Two threads may both make the string; either serves.
        var strings = _strings ??= new string?[Size];
        return strings[id] ??= Encoding.UTF8.GetString(this[id]);
    }

    /// <summary>A token for a message.</summary>
    public static string Show(ReadOnlySpan<byte> token) => "\"" + Encoding.UTF8.GetString(token) + "\"";

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Hash(ReadOnlySpan<byte> token)
    {
        const ulong Prime = 0x9E3779B97F4A7C15UL;
        ref var first = ref MemoryMarshal.GetReference(token);
        var length = token.Length;
        var hash = (ulong)length * 0xC2B2AE3D27D4EB4FUL;
        var at = 0;
        for (; length - at > 8; at += 8)
        {
            hash = (hash ^ Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref first, at))) * Prime;
            hash ^= hash >> 32;
        }

        // The last one to eight bytes, in reads that may overlap.
        var rest = length - at;
        ulong tail = 0;
        if (rest >= 4)
        {
            tail = Unsafe.ReadUnaligned<uint>(ref Unsafe.Add(ref first, at))
                | ((ulong)Unsafe.ReadUnaligned<uint>(ref Unsafe.Add(ref first, length - 4)) << 32);
        }
        else if (rest > 0)
        {
            tail = Unsafe.Add(ref first, at) | ((uint)Unsafe.Add(ref first, at + (rest >> 1)) << 8) | ((uint)Unsafe.Add(ref first, length - 1) << 16);
        }

        hash = (hash ^ tail) * Prime;
        return (uint)(hash >> 32);
    }

    private void Store(ReadOnlySpan<byte> token, int id)
    {
        token.CopyTo(_bytes.AsSpan(_byteCount));
        _spans[id] = new Span { Start = _byteCount, LengthPlusOne = token.Length + 1 };
        _byteCount += token.Length;
        Count++;
        Size = Math.Max(Size, id + 1);
    }

    private void Reserve(int bytes, int id)
    {
        if (_byteCount + bytes > _bytes.Length)
        {
            Array.Resize(ref _bytes, Math.Max(_bytes.Length * 2, _byteCount + bytes));
        }

        if (id >= _spans.Length)
        {
            Array.Resize(ref _spans, Math.Max(_spans.Length * 2, id + 1));
        }

        if ((Count + 1) * 2 > _slots.Length)
        {
            var larger = new Slot[_slots.Length * 2];
            var mask = (uint)larger.Length - 1;
            foreach (var slot in _slots)
            {
                if (slot.IdPlusOne != 0)
                {
                    var i = slot.Hash & mask;
                    while (larger[i].IdPlusOne != 0)
                    {
                        i = (i + 1) & mask;
                    }

                    larger[i] = slot;
                }
            }

            _slots = larger;
        }
    }
}
