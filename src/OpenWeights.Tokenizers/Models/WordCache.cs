using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace OpenWeights.Tokenizers;

/// <summary>
/// Cache of the tokens of words: a text repeats its words, and looking one up is far cheaper than merging it again. Not thread-safe. When it
/// is full it is cleared, so that it follows a change of text.
/// </summary>
internal sealed class WordCache
{
    /// <summary>Longer words are not cached (their ranges would not fit into 16 bits).</summary>
    public const int LongestWord = 256;

    private const int MaxEntries = 1 << 17;
    private const int MaxCharacters = 1 << 21;
    private const int MaxValues = 1 << 21;

    private Entry[] _entries = new Entry[1 << 10];
    private char[] _characters = new char[1 << 12];
    private int[] _values = new int[1 << 12];
    private int _entryCount;
    private int _characterCount;
    private int _valueCount;

    private struct Entry
    {
        public uint Hash;
        public int CharacterStart;
        public int ValueStart;
        public ushort Length;
        public ushort Tokens;
        public bool Used;
    }

    /// <summary>A word's hash.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint Hash(ReadOnlySpan<char> word)
    {
        const ulong Prime = 0x9E3779B97F4A7C15UL;
        ref var first = ref Unsafe.As<char, byte>(ref MemoryMarshal.GetReference(word));
        var bytes = (nuint)word.Length * 2;
        var hash = (ulong)bytes * 0xC2B2AE3D27D4EB4FUL;
        nuint at = 0;
        while (at + 8 <= bytes)
        {
            hash = (hash ^ Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref first, at))) * Prime;
            hash ^= hash >> 32;
            at += 8;
        }

        if (at + 4 <= bytes)
        {
            hash = (hash ^ Unsafe.ReadUnaligned<uint>(ref Unsafe.Add(ref first, at))) * Prime;
            hash ^= hash >> 32;
            at += 4;
        }

        if (at < bytes)
        {
            hash = (hash ^ Unsafe.ReadUnaligned<ushort>(ref Unsafe.Add(ref first, at))) * Prime;
        }

        return (uint)(hash ^ (hash >> 29));
    }

    /// <summary>Adds the tokens of a cached word to the output.</summary>
    /// <returns>Whether the word is cached.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryEmit(ReadOnlySpan<char> word, uint hash, TokenOutput output)
    {
        var entries = _entries;
        var mask = (uint)entries.Length - 1;
        for (var i = hash & mask; ; i = (i + 1) & mask)
        {
            ref var entry = ref entries[i];
            if (!entry.Used)
            {
                return false;
            }

            if (entry.Hash == hash && entry.Length == word.Length
                && word.SequenceEqual(_characters.AsSpan(entry.CharacterStart, entry.Length)))
            {
                output.Add(
                    _values.AsSpan(entry.ValueStart, entry.Tokens),
                    _values.AsSpan(entry.ValueStart + entry.Tokens, entry.Tokens));
                return true;
            }
        }
    }

    /// <summary>Caches the tokens of a word that is not cached yet. Ranges are packed as start | end &lt;&lt; 16.</summary>
    public void Add(ReadOnlySpan<char> word, uint hash, ReadOnlySpan<int> ids, ReadOnlySpan<int> packedRanges)
    {
        if (word.Length > LongestWord || ids.Length > ushort.MaxValue)
        {
            return;
        }

        MakeRoom(word.Length, ids.Length * 2);
        var entry = new Entry
        {
            Hash = hash,
            CharacterStart = _characterCount,
            ValueStart = _valueCount,
            Length = (ushort)word.Length,
            Tokens = (ushort)ids.Length,
            Used = true,
        };
        word.CopyTo(_characters.AsSpan(_characterCount));
        ids.CopyTo(_values.AsSpan(_valueCount));
        packedRanges.CopyTo(_values.AsSpan(_valueCount + ids.Length));
        _characterCount += word.Length;
        _valueCount += ids.Length * 2;
        _entryCount++;
        Place(_entries, entry);
    }

    private void MakeRoom(int characters, int values)
    {
        if (_entryCount >= MaxEntries || _characterCount + characters > MaxCharacters || _valueCount + values > MaxValues)
        {
            Array.Clear(_entries);
            _entryCount = _characterCount = _valueCount = 0;
        }

        if (_entryCount * 2 >= _entries.Length)
        {
            var larger = new Entry[_entries.Length * 4];
            foreach (ref var entry in _entries.AsSpan())
            {
                if (entry.Used)
                {
                    Place(larger, entry);
                }
            }

            _entries = larger;
        }

        if (_characterCount + characters > _characters.Length)
        {
            Array.Resize(ref _characters, Math.Max(_characters.Length * 2, _characterCount + characters));
        }

        if (_valueCount + values > _values.Length)
        {
            Array.Resize(ref _values, Math.Max(_values.Length * 2, _valueCount + values));
        }
    }

    private static void Place(Entry[] entries, in Entry entry)
    {
        var mask = (uint)entries.Length - 1;
        var i = entry.Hash & mask;
        while (entries[i].Used)
        {
            i = (i + 1) & mask;
        }

        entries[i] = entry;
    }
}
