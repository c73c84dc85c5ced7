namespace OpenWeights.Tune;

/// <summary>Suggests corrections of misspelled words.</summary>
internal static class Spelling
{
    /// <summary>The closest of the known words, ignoring case; null if none is close enough.</summary>
    /// <param name="word">The word.</param>
    /// <param name="possible">The known words.</param>
    public static string? Nearest(string word, IEnumerable<string> possible)
    {
        ArgumentNullException.ThrowIfNull(word);
        ArgumentNullException.ThrowIfNull(possible);

        // A prefix that is most of a known word is taken as that word.
        bool Begins(string p) => 2 * word.Length >= p.Length && word.Length > 2 && p.StartsWith(word, StringComparison.OrdinalIgnoreCase);
        return possible.Select(p => (Word: p, Distance: Begins(p) ? 0 : Distance(word.ToUpperInvariant(), p.ToUpperInvariant())))
            .Where(p => p.Distance <= Math.Max(1, Math.Min(word.Length, p.Word.Length) / 3))
            .OrderBy(static p => p.Distance)
            .Select(static p => p.Word)
            .FirstOrDefault();
    }

    /// <summary>A question that suggests the closest known word, with a leading space; empty if none is close.</summary>
    /// <param name="word">The word.</param>
    /// <param name="possible">The known words.</param>
    public static string DidYouMean(string word, IEnumerable<string> possible) => Nearest(word, possible) is { } nearest ? $" Did you mean {nearest}?" : "";

    // Edit distance, with a transposition counting as one (optimal string alignment; Damerau and Levenshtein).
    private static int Distance(string a, string b)
    {
        var d = new int[a.Length + 1, b.Length + 1];
        for (var i = 0; i <= a.Length; i++)
        {
            for (var j = 0; j <= b.Length; j++)
            {
                if (i == 0 || j == 0)
                {
                    d[i, j] = i + j;
                    continue;
                }

                var change = a[i - 1] == b[j - 1] ? 0 : 1;
                d[i, j] = Math.Min(Math.Min(d[i - 1, j] + 1, d[i, j - 1] + 1), d[i - 1, j - 1] + change);
                if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                {
                    d[i, j] = Math.Min(d[i, j], d[i - 2, j - 2] + 1);
                }
            }
        }

        return d[a.Length, b.Length];
    }
}
