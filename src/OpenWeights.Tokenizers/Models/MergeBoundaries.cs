using System.Numerics;
using System.Runtime.CompilerServices;
using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>
/// Between which neighbouring characters some merge could join: everywhere else a text can be cut without changing what BPE makes of
/// it, since merges of one side never meet those of the other. Without this a document for a SentencePiece model, which has no
/// pre-tokenizer, or a sentence of a language without spaces would be one word: slow to merge, and never seen before.
/// </summary>
/// <remarks>
/// The first merge across a place between two characters has a left token that ends there and a right token that begins there. So
/// it is enough to know, for all merges, with what the left token ends and the right one begins: a whole character, or, in byte-level
/// models, a token that is the last bytes of one or the first bytes of one.
/// </remarks>
internal sealed class MergeBoundaries
{
    private readonly ulong[] _ascii = new ulong[128 * 128 / 64];
    private readonly ulong[] _broken = new ulong[256 * 256 / 64];
    private readonly ulong[] _slots;
    private readonly int _mask;

    /// <param name="pairs">The merges.</param>
    /// <param name="vocabulary">The tokens.</param>
    /// <param name="byteLevel">Whether tokens are written in the byte-level alphabet, and stand for bytes.</param>
    public MergeBoundaries(PairTable pairs, Vocabulary vocabulary, bool byteLevel)
    {
        _slots = new ulong[BitOperations.RoundUpToPowerOf2((uint)Math.Max(64, pairs.Count * 2))];
        _mask = _slots.Length - 1;
        var ends = new uint[vocabulary.Size];
        var starts = new uint[vocabulary.Size];
        var buffer = new byte[256];
        for (var id = 0; id < vocabulary.Size; id++)
        {
            if (vocabulary.Contains(id))
            {
                var token = vocabulary[id];
                if (byteLevel)
                {
                    token = ByteLevelAlphabet.TryDecode(token, ref buffer, out var count) ? buffer.AsSpan(0, count) : default;
                }

                (starts[id], ends[id]) = Edges(token);
            }
        }

        for (var number = 0; number < pairs.Count; number++)
        {
            var (left, right) = pairs.Pair(number);
            Join(ends[left], starts[right]);
        }
    }

    /// <summary>The first place after <paramref name="start"/> where the text can be cut; its end at the latest.</summary>
    /// <param name="text">The text.</param>
    /// <param name="start">Where the part begins.</param>
    /// <param name="fuses">Where not null: a cut must not part two characters that this says of, since unknown neighbours fuse.</param>
    public int NextCut(ReadOnlySpan<char> text, int start, Func<int, bool>? fuses)
    {
        var at = start;
        var last = Next(text, ref at);
        while (at < text.Length)
        {
            var cut = at;
            var first = Next(text, ref at);
            if (!Joins(last, first) && !(fuses is not null && fuses(last) && fuses(first)))
            {
                return cut;
            }

            last = first;
        }

        return text.Length;
    }

    private static int Next(ReadOnlySpan<char> text, ref int at)
    {
        var unit = text[at++];
        return char.IsHighSurrogate(unit) && at < text.Length && char.IsLowSurrogate(text[at])
            ? char.ConvertToUtf32(unit, text[at++])
            : unit;
    }

    /// <summary>The first and the last character of a token, or as much of them as it has, as bytes packed into a number.</summary>
    private static (uint Start, uint End) Edges(ReadOnlySpan<byte> token)
    {
        if (token.IsEmpty)
        {
            return (0, 0);
        }

        var first = Math.Min(token.Length, LengthFrom(token[0]));
        var last = 1;
        while (last < Math.Min(4, token.Length) && (token[^last] & 0xC0) == 0x80)
        {
            last++;
        }

        return (Pack(token[..first]), Pack(token[^last..]));
    }

    private static int LengthFrom(byte first) => first switch { < 0xC0 => 1, < 0xE0 => 2, < 0xF0 => 3, _ => 4 };

    private static uint Pack(ReadOnlySpan<byte> bytes)
    {
        uint packed = 0;
        foreach (var value in bytes)
        {
            packed = (packed << 8) | value;
        }

        return packed;
    }

    /// <summary>Whether packed bytes are one whole character.</summary>
    private static bool IsWhole(uint packed)
    {
        var length = packed switch { <= 0xFF => 1, <= 0xFFFF => 2, <= 0xFFFFFF => 3, _ => 4 };
        var first = (byte)(packed >> ((length - 1) * 8));
        return first < 0x80 ? length == 1 : first >= 0xC0 && length == LengthFrom(first);
    }

    private void Join(uint end, uint start)
    {
        if (end < 0x80 && start < 0x80)
        {
            _ascii[((end << 7) | start) >> 6] |= 1UL << (int)(start & 63);
        }

        if (!IsWhole(end) || !IsWhole(start))
        {
            var pair = ((end & 0xFF) << 8) | FirstByte(start);
            _broken[pair >> 6] |= 1UL << (int)(pair & 63);
        }

        var key = Key(end, start);
        var i = Slot(key);
        while (_slots[i] != 0 && _slots[i] != key)
        {
            i = (i + 1) & _mask;
        }

        _slots[i] = key;
    }

    private bool Joins(int last, int first)
    {
        if (last < 128 && first < 128)
        {
            return (_ascii[((last << 7) | first) >> 6] & (1UL << (first & 63))) != 0;
        }

        Span<byte> bytes = stackalloc byte[8];
        var lastLength = new Rune(last).EncodeToUtf8(bytes);
        var firstLength = new Rune(first).EncodeToUtf8(bytes[4..]);
        var end = Pack(bytes[..lastLength]);
        var start = Pack(bytes.Slice(4, firstLength));
        if (Contains(end, start))
        {
            return true;
        }

        var pair = (bytes[lastLength - 1] << 8) | bytes[4];
        return (_broken[pair >> 6] & (1UL << (pair & 63))) != 0 && JoinsBroken(bytes[..lastLength], bytes.Slice(4, firstLength));
    }

    private bool JoinsBroken(ReadOnlySpan<byte> last, ReadOnlySpan<byte> first)
    {
        for (var from = 0; from < last.Length; from++)
        {
            for (var to = 1; to <= first.Length; to++)
            {
                if (Contains(Pack(last[from..]), Pack(first[..to])))
                {
                    return true;
                }
            }
        }

        return false;
    }

    private static uint FirstByte(uint packed) => packed switch { <= 0xFF => packed, <= 0xFFFF => packed >> 8, <= 0xFFFFFF => packed >> 16, _ => packed >> 24 };

    // A NUL packs like nothing at all; the bit keeps a key from being zero.
    private static ulong Key(uint end, uint start) => ((ulong)end << 32) | start | (1UL << 63);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private int Slot(ulong key)
    {
        key *= 0x9E3779B97F4A7C15UL;
        return (int)((key ^ (key >> 32)) >> 8) & _mask;
    }

    private bool Contains(uint end, uint start)
    {
        var key = Key(end, start);
        for (var i = Slot(key); _slots[i] != 0; i = (i + 1) & _mask)
        {
            if (_slots[i] == key)
            {
                return true;
            }
        }

        return false;
    }
}
