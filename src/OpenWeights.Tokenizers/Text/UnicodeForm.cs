using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>
/// A Unicode normalization form (UAX 15). .NET's own <c>string.Normalize</c> does nothing in an application with
/// InvariantGlobalization, and elsewhere has the tables of whatever ICU is installed; these are the reference's.
/// </summary>
/// <param name="compatibility">NFKC and NFKD rather than NFC and NFD.</param>
/// <param name="composes">NFC and NFKC rather than NFD and NFKD.</param>
internal sealed class UnicodeForm(bool compatibility, bool composes)
{
    private const int HangulBase = 0xAC00;
    private const int HangulCount = 11172;
    private const int LeadBase = 0x1100;
    private const int VowelBase = 0x1161;
    private const int TrailBase = 0x11A7;
    private const int LeadCount = 19;
    private const int VowelCount = 21;
    private const int TrailCount = 28;

    private readonly Lazy<ulong[]> _unstable = new(() => BuildUnstable(compatibility, composes));

    /// <summary>Below this every character is as it is and meets nothing before it.</summary>
    private readonly char _firstUnstable = compatibility ? '\u00A0' : composes ? '\u0300' : '\u00C0';

    /// <summary>The place of the first character that may change or may meet the one before it, or -1.</summary>
    public int FirstUnstable(ReadOnlySpan<char> text)
    {
        var i = text.IndexOfAnyInRange(_firstUnstable, '\uFFFF');
        return i < 0 ? -1 : NextUnstable(text, i);
    }

    /// <summary>Writes the form of a text.</summary>
    public void Write(in SourceText source, AlignedText output)
    {
        var text = source.Chars;
        var cluster = new List<Part>();
        var at = 0;
        while (at < text.Length)
        {
            var unstable = NextUnstable(text, at);
            if (unstable < 0)
            {
                output.Append(source, at, text.Length - at);
                return;
            }

            // What composes begins with the character before the first that may meet it.
            var start = composes && unstable > at ? PreviousCharacter(text, unstable) : unstable;
            output.Append(source, at, start - at);
            cluster.Clear();
            at = start;
            do
            {
                at += ReadCharacter(source, at, cluster);
            }
            while (at < text.Length && IsUnstable(CodePointAt(text, at)));

            Order(cluster);
            WriteCluster(cluster, output);
        }
    }

    private struct Part
    {
        public int CodePoint;
        public byte Class;
        public int Start;
        public int End;
    }

    private static int CodePointAt(ReadOnlySpan<char> text, int at) =>
        char.IsHighSurrogate(text[at]) && at + 1 < text.Length ? char.ConvertToUtf32(text[at], text[at + 1]) : text[at];

    private static int PreviousCharacter(ReadOnlySpan<char> text, int at) =>
        at >= 2 && char.IsLowSurrogate(text[at - 1]) ? at - 2 : at - 1;

    private static ulong[] BuildUnstable(bool compatibility, bool composes)
    {
        var data = UnicodeData.Instance;
        var bits = new ulong[0x30000 / 64];
        void Set(int codePoint) => bits[codePoint >> 6] |= 1UL << codePoint;

        for (var c = 0; c < 0x20000; c++)
        {
            if (data.CombiningClass(c) != 0)
            {
                Set(c);
            }
        }

        foreach (var (c, decomposition) in data.Decompositions)
        {
            // A composed character with a canonical decomposition stays as it is unless a mark follows.
            if (decomposition.IsCompatibility ? compatibility : !composes || IsUnstableWhenComposing(data, c, decomposition, compatibility))
            {
                Set(c);
            }
        }

        for (var i = 0; i < (composes ? VowelCount : 0); i++)
        {
            Set(VowelBase + i);
        }

        for (var i = 1; i < (composes ? TrailCount : 0); i++)
        {
            Set(TrailBase + i);
        }

        for (var i = 0; i < (composes ? 0 : HangulCount); i++)
        {
            Set(HangulBase + i);
        }

        foreach (var second in composes ? data.Seconds : [])
        {
            Set(second);
        }

        return bits;
    }

    private static bool IsUnstableWhenComposing(UnicodeData data, int codePoint, UnicodeData.Decomposition decomposition, bool compatibility)
    {
        if (decomposition.IsExcluded || decomposition.Parts.Length == 1)
        {
            return true;
        }

        // In the compatibility forms a part may decompose further than the composed character can be put together from.
        return compatibility && decomposition.Parts.Any(p => HasCompatibilityPart(data, p)) && data.Compose(decomposition.Parts[0], decomposition.Parts[1]) == codePoint;
    }

    private static bool HasCompatibilityPart(UnicodeData data, int codePoint) =>
        data.Decompose(codePoint) is { } d && (d.IsCompatibility || d.Parts.Any(p => HasCompatibilityPart(data, p)));

    private bool IsUnstable(int codePoint) =>
        codePoint < 0x30000 && (_unstable.Value[codePoint >> 6] & (1UL << codePoint)) != 0;

    private int NextUnstable(ReadOnlySpan<char> text, int start)
    {
        var bits = _unstable.Value;
        for (var i = start; i < text.Length; i++)
        {
            var unit = text[i];
            if (unit < _firstUnstable)
            {
                continue;
            }

            if (char.IsHighSurrogate(unit) && i + 1 < text.Length)
            {
                if (IsUnstable(char.ConvertToUtf32(unit, text[i + 1])))
                {
                    return i;
                }

                i++;
            }
            else if ((bits[unit >> 6] & (1UL << unit)) != 0)
            {
                return i;
            }
        }

        return -1;
    }

    private int ReadCharacter(in SourceText source, int at, List<Part> cluster)
    {
        var codePoint = CodePointAt(source.Chars, at);
        var units = codePoint > 0xFFFF ? 2 : 1;
        Decompose(codePoint, source.InputStart(at), source.InputEnd(at + units - 1), cluster);
        return units;
    }

    private void Decompose(int codePoint, int start, int end, List<Part> cluster)
    {
        var syllable = codePoint - HangulBase;
        if (syllable is >= 0 and < HangulCount)
        {
            Add(LeadBase + (syllable / (VowelCount * TrailCount)));
            Add(VowelBase + (syllable % (VowelCount * TrailCount) / TrailCount));
            if (syllable % TrailCount > 0)
            {
                Add(TrailBase + (syllable % TrailCount));
            }

            return;
        }

        var decomposition = UnicodeData.Instance.Decompose(codePoint);
        if (decomposition is null || (decomposition.IsCompatibility && !compatibility))
        {
            Add(codePoint);
            return;
        }

        foreach (var part in decomposition.Parts)
        {
            Decompose(part, start, end, cluster);
        }

        void Add(int part) =>
            cluster.Add(new Part { CodePoint = part, Class = UnicodeData.Instance.CombiningClass(part), Start = start, End = end });
    }

    /// <summary>Puts runs of marks into the order of their classes, marks of one class in the order they had.</summary>
    private static void Order(List<Part> cluster)
    {
        for (var i = 0; i < cluster.Count; i++)
        {
            if (cluster[i].Class == 0)
            {
                continue;
            }

            var end = i + 1;
            while (end < cluster.Count && cluster[end].Class != 0)
            {
                end++;
            }

            var ordered = cluster.GetRange(i, end - i).OrderBy(p => p.Class).ToArray();
            for (var j = i; j < end; j++)
            {
                cluster[j] = ordered[j - i];
            }

            i = end - 1;
        }
    }

    private void WriteCluster(List<Part> cluster, AlignedText output)
    {
        var count = composes ? Compose(cluster) : cluster.Count;
        Span<char> units = stackalloc char[2];
        for (var i = 0; i < count; i++)
        {
            var part = cluster[i];
            var length = new Rune(part.CodePoint).EncodeToUtf16(units);
            output.Append(units[..length], part.Start, part.End);
        }
    }

    /// <summary>Composes in place.</summary>
    /// <returns>Number of remaining parts.</returns>
    private static int Compose(List<Part> cluster)
    {
        var count = 0;
        var starter = -1;
        var lastClass = -1;
        for (var i = 0; i < cluster.Count; i++)
        {
            var part = cluster[i];
            // A mark meets the last starter unless a mark of its class or higher, or another starter, stands between.
            var isBlocked = starter < 0 || (lastClass >= part.Class && count - 1 > starter);
            var composed = isBlocked ? -1 : ComposePair(cluster[starter].CodePoint, part.CodePoint);
            if (composed >= 0)
            {
                var joined = cluster[starter];
                joined.CodePoint = composed;
                joined.Start = Math.Min(joined.Start, part.Start);
                joined.End = Math.Max(joined.End, part.End);
                cluster[starter] = joined;
                continue;
            }

            if (part.Class == 0)
            {
                starter = count;
            }

            lastClass = part.Class;
            cluster[count++] = part;
        }

        return count;
    }

    private static int ComposePair(int first, int second)
    {
        var lead = first - LeadBase;
        var vowel = second - VowelBase;
        if (lead is >= 0 and < LeadCount && vowel is >= 0 and < VowelCount)
        {
            return HangulBase + (((lead * VowelCount) + vowel) * TrailCount);
        }

        var syllable = first - HangulBase;
        var trail = second - TrailBase;
        if (syllable is >= 0 and < HangulCount && syllable % TrailCount == 0 && trail is > 0 and < TrailCount)
        {
            return first + trail;
        }

        return UnicodeData.Instance.Compose(first, second);
    }
}
