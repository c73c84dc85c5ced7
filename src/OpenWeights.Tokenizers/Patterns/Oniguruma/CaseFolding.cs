using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>Which characters are equal when case is ignored (Unicode simple case folding).</summary>
internal static class CaseFolding
{
    private static readonly Lazy<Dictionary<int, int[]>> s_equals = new(Build);

    /// <summary>
    /// Characters whose full folding is several characters, such as ß: ignoring case, Oniguruma lets "ss" match them and back,
    /// which sets of single characters cannot say.
    /// </summary>
    public static CodePointSet Expanding { get; } = CodePointSet.Of(
    [
        (0xDF, 0xDF), (0x130, 0x130), (0x149, 0x149), (0x1F0, 0x1F0), (0x390, 0x390), (0x3B0, 0x3B0), (0x587, 0x587),
        (0x1E96, 0x1E9A), (0x1E9E, 0x1E9E), (0x1F50, 0x1F50), (0x1F52, 0x1F52), (0x1F54, 0x1F54), (0x1F56, 0x1F56),
        (0x1F80, 0x1FAF), (0x1FB2, 0x1FB4), (0x1FB6, 0x1FB7), (0x1FBC, 0x1FBC), (0x1FC2, 0x1FC4), (0x1FC6, 0x1FC7),
        (0x1FCC, 0x1FCC), (0x1FD2, 0x1FD3), (0x1FD6, 0x1FD7), (0x1FE2, 0x1FE4), (0x1FE6, 0x1FE7), (0x1FF2, 0x1FF4),
        (0x1FF6, 0x1FF7), (0x1FFC, 0x1FFC), (0xFB00, 0xFB06), (0xFB13, 0xFB17),
    ]);

    /// <summary>The set extended by all case variants of its characters.</summary>
    public static CodePointSet Close(CodePointSet set)
    {
        var added = new List<(int, int)>(set.Ranges);
        foreach (var (code, equals) in s_equals.Value)
        {
            if (set.Contains(code))
            {
                added.AddRange(equals.Select(e => (e, e)));
            }
        }

        return CodePointSet.Of(added);
    }

    /// <summary>Whether two characters in a row can equal a single one, so that a pattern with them cannot be translated.</summary>
    public static bool MayContract(int first, int second)
    {
        var a = char.ToLowerInvariant((char)Math.Min(first, 0xFFFF));
        var b = char.ToLowerInvariant((char)Math.Min(second, 0xFFFF));
        a = a == '\u017F' ? 's' : a;
        b = b == '\u017F' ? 's' : b;
        return (a, b) is ('s', 's') or ('s', 't') or ('f', 'f') or ('f', 'i') or ('f', 'l') || second is (>= 0x300 and <= 0x345) or 0x3B9 or 0x399 or 0x2BE
            || (first == 0x2BC && b == 'n') || first is 0x565 or 0x574 or 0x57E or 0x535 or 0x544 or 0x54E;
    }

    private static Dictionary<int, int[]> Build()
    {
        var groups = new Dictionary<int, List<int>>();
        for (var c = 0; c < 0x20000; c++)
        {
            if (c is >= 0xD800 and <= 0xDFFF)
            {
                continue;
            }

            // One representative for all characters that fold alike. .NET's invariant casing leaves the long s alone.
            var key = c == 0x17F ? 'S' : Rune.ToUpperInvariant(Rune.ToLowerInvariant(Rune.ToUpperInvariant(new Rune(c)))).Value;
            if (!groups.TryGetValue(key, out var members))
            {
                groups.Add(key, members = []);
            }

            members.Add(c);
        }

        return groups.Values.Where(m => m.Count > 1)
            .SelectMany(m => m.Select(c => (c, m.ToArray())))
            .ToDictionary(p => p.c, p => p.Item2);
    }
}
