using System.Buffers.Binary;
using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>
/// SentencePiece's <c>precompiled_charsmap</c>: a double-array trie (darts-clone) over UTF-8, whose values are offsets into a list
/// of NUL-terminated replacements.
/// </summary>
internal sealed class CharacterMap
{
    private readonly uint[] _units;
    private readonly byte[] _replacements;

    private CharacterMap(uint[] units, byte[] replacements)
    {
        _units = units;
        _replacements = replacements;
    }

    /// <summary>Reads a map.</summary>
    /// <returns>Null if the bytes are not a map.</returns>
    public static CharacterMap? TryRead(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length < 4)
        {
            return null;
        }

        var trieBytes = BinaryPrimitives.ReadUInt32LittleEndian(bytes);
        if (trieBytes % 4 != 0 || trieBytes > bytes.Length - 4)
        {
            return null;
        }

        var units = new uint[trieBytes / 4];
        for (var i = 0; i < units.Length; i++)
        {
            units[i] = BinaryPrimitives.ReadUInt32LittleEndian(bytes[(4 + (i * 4))..]);
        }

        return new CharacterMap(units, bytes[(4 + (int)trieBytes)..].ToArray());
    }

    /// <summary>Replacement of the shortest prefix of the text that is in the map, or null.</summary>
    public string? ShortestPrefix(ReadOnlySpan<byte> text)
    {
        foreach (var match in new Matches(this, text))
        {
            return match.Replacement();
        }

        return null;
    }

    /// <summary>Replacement of the longest prefix of the text that is in the map, and the prefix's length in bytes; null if there is none.</summary>
    public string? LongestPrefix(ReadOnlySpan<byte> text, out int length)
    {
        Match? longest = null;
        foreach (var match in new Matches(this, text))
        {
            longest = match;
        }

        length = longest?.Length ?? 0;
        return longest?.Replacement();
    }

    private readonly record struct Match(CharacterMap Map, int Place, int Length)
    {
        public string Replacement()
        {
            var rest = Place < Map._replacements.Length ? Map._replacements.AsSpan(Place) : default;
            var end = rest.IndexOf((byte)0);
            return Encoding.UTF8.GetString(end < 0 ? rest : rest[..end]);
        }
    }

    /// <summary>The prefixes of a text that are in the map, the shortest first.</summary>
    private ref struct Matches(CharacterMap map, ReadOnlySpan<byte> text)
    {
        private readonly ReadOnlySpan<byte> _text = text;
        private int _at;
        private uint _node = Offset(map.Unit(0));

        public Match Current { get; private set; }

        public readonly Matches GetEnumerator() => this;

        public bool MoveNext()
        {
            while (_at < _text.Length)
            {
                var label = _text[_at++];
                _node ^= label;
                var unit = map.Unit(_node);
                // A unit belongs to this path when its label (with the bit of values) is the byte that led here.
                if ((unit & 0x800000FF) != label || label == 0)
                {
                    _at = _text.Length;
                    return false;
                }

                var hasValue = ((unit >> 8) & 1) == 1;
                _node ^= Offset(unit);
                if (hasValue)
                {
                    Current = new Match(map, (int)(map.Unit(_node) & 0x7FFFFFFF), _at);
                    return true;
                }
            }

            return false;
        }

        private static uint Offset(uint unit) => (unit >> 10) << (int)((unit & 0x200) >> 6);
    }

    private uint Unit(uint place) => place < _units.Length ? _units[place] : 0x80000000;
}
