namespace OpenWeights.Tune;

/// <summary>Guesses what a mistyped word was to be.</summary>
public static class Spelling
{
    /// <summary>The nearest of the possible words, if one is near enough; capitals count for nothing.</summary>
    /// <param name="word">What was written.</param>
    /// <param name="possible">What is possible.</param>
    public static string? Nearest(string word, IEnumerable<string> possible)
    {
        ArgumentNullException.ThrowIfNull(word);
        ArgumentNullException.ThrowIfNull(possible);

        // Most of a word, from its start, is meant to be it.
        bool Begins(string p) => 2 * word.Length >= p.Length && word.Length > 2 && p.StartsWith(word, StringComparison.OrdinalIgnoreCase);
        return possible.Select(p => (Word: p, Distance: Begins(p) ? 0 : Distance(word.ToUpperInvariant(), p.ToUpperInvariant())))
            .Where(p => p.Distance <= Math.Max(1, Math.Min(word.Length, p.Word.Length) / 3))
            .OrderBy(static p => p.Distance)
            .Select(static p => p.Word)
            .FirstOrDefault();
    }

    /// <summary>A question that names the nearest of the possible words, with a space before it; nothing where none is near.</summary>
    /// <param name="word">What was written.</param>
    /// <param name="possible">What is possible.</param>
    public static string DidYouMean(string word, IEnumerable<string> possible) => Nearest(word, possible) is { } nearest ? $" Did you mean {nearest}?" : "";

    // Edits, with a swap of neighbours counting as one (Damerau and Levenshtein, optimal string alignment).
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
