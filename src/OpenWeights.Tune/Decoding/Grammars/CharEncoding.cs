namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>How characters are written: in UTF-8, and in a JSON string.</summary>
internal static class CharEncoding
{
    private static readonly (char Character, char Letter)[] s_escapes =
        [('"', '"'), ('\\', '\\'), ('/', '/'), ('\b', 'b'), ('\f', 'f'), ('\n', 'n'), ('\r', 'r'), ('\t', 't')];

    private static readonly CharSet s_bare = CharSet.Of((0x20, CharSet.Last)).And(CharSet.Any("\"\\").Not());

    // The last character of one, two, three and four bytes, and what the first of them begins with.
    private static readonly (int Low, int High, int Lead)[] s_lengths = [(0, 0x7F, 0), (0x80, 0x7FF, 0xC0), (0x800, 0xFFFF, 0xE0), (0x10000, CharSet.Last, 0xF0)];

    /// <summary>The characters of a set in UTF-8.</summary>
    internal static GrammarNode Utf8(CharSet set)
    {
        var choices = new List<GrammarNode>();
        foreach (var (low, high) in set.Ranges)
        {
            for (var more = 0; more < s_lengths.Length; more++)
            {
                var (first, last) = (Math.Max(low, s_lengths[more].Low), Math.Min(high, s_lengths[more].High));
                if (first <= last)
                {
                    choices.Add(Utf8(first, last, more, s_lengths[more].Lead));
                }
            }
        }

        return GrammarNode.AnyOf(choices);
    }

    /// <summary>The characters of a set in a JSON string: themselves, or escaped.</summary>
    internal static GrammarNode Json(CharSet set)
    {
        var choices = new List<GrammarNode> { Utf8(set.And(s_bare)) };
        choices.AddRange(s_escapes.Where(e => set.Contains(e.Character)).Select(static e => GrammarNode.Of("\\" + e.Letter)));
        foreach (var (low, high) in set.Ranges)
        {
            if (low <= 0xFFFF)
            {
                choices.Add(Unit(low, Math.Min(high, 0xFFFF)));
            }

            if (high > 0xFFFF)
            {
                choices.Add(Pair(Math.Max(low, 0x10000) - 0x10000, high - 0x10000));
            }
        }

        return GrammarNode.AnyOf(choices);
    }

    private static GrammarNode Utf8(int low, int high, int more, int lead)
    {
        int[] Digits(int value) => [.. Enumerable.Range(0, more + 1).Select(i => value >> (6 * (more - i)) & (i == 0 ? -1 : 63))];
        return DigitRanges.Between(Digits(low), Digits(high), [int.MaxValue, .. Enumerable.Repeat(63, more)], (place, from, to) => place == 0
            ? new GrammarNode.Bytes(ByteSet.Range(lead | from, lead | to))
            : new GrammarNode.Bytes(ByteSet.Range(0x80 | from, 0x80 | to)));
    }

    private static GrammarNode Unit(int low, int high)
    {
        static int[] Digits(int value) => [value >> 12, value >> 8 & 15, value >> 4 & 15, value & 15];
        return GrammarNode.Row(GrammarNode.Of("\\u"), DigitRanges.Between(Digits(low), Digits(high), [15, 15, 15, 15], static (_, from, to) => Hex(from, to)));
    }

    // A high surrogate and a low one.
    private static GrammarNode Pair(int low, int high)
    {
        static int[] Digits(int value) => [value >> 10, value & 0x3FF];
        return DigitRanges.Between(Digits(low), Digits(high), [0x3FF, 0x3FF], static (place, from, to) => Unit((place == 0 ? 0xD800 : 0xDC00) + from, (place == 0 ? 0xD800 : 0xDC00) + to));
    }

    private static GrammarNode.Bytes Hex(int from, int to)
    {
        var set = default(ByteSet);
        for (var i = from; i <= to; i++)
        {
            set |= i < 10 ? ByteSet.Range('0' + i, '0' + i) : ByteSet.Range('a' + i - 10, 'a' + i - 10) | ByteSet.Range('A' + i - 10, 'A' + i - 10);
        }

        return new GrammarNode.Bytes(set);
    }
}
