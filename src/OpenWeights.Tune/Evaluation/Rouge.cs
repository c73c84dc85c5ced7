using System.Text;

namespace OpenWeights.Tune.Evaluation;

/// <summary>
/// ROUGE (Lin, 2004) as the package rouge-score defines it: words are runs of a to z and 0 to 9 in lower case, optionally stemmed (Porter) if longer than
/// three characters. Scores are F-measures from 0 to 1.
/// </summary>
internal static class Rouge
{
    /// <summary>ROUGE-N: the n-grams that both texts have.</summary>
    /// <param name="given">The text to score.</param>
    /// <param name="expected">The reference.</param>
    /// <param name="n">Length of the n-grams.</param>
    /// <param name="stems">Whether words are stemmed.</param>
    public static RougeScore OfNGrams(string given, string expected, int n, bool stems = false)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(n, 1);
        var (text, reference) = (Words(given, stems), Words(expected, stems));
        return RougeScore.Of(NGrams.Shared(NGrams.Count(text, n), NGrams.Count(reference, n)), text.Count - n + 1, reference.Count - n + 1);
    }

    /// <summary>ROUGE-L: the longest common subsequence of words; line breaks are ignored.</summary>
    /// <param name="given">The text to score.</param>
    /// <param name="expected">The reference.</param>
    /// <param name="stems">Whether words are stemmed.</param>
    public static RougeScore OfSequence(string given, string expected, bool stems = false)
    {
        var (text, reference) = (Words(given, stems), Words(expected, stems));
        return RougeScore.Of(Table(reference, text)[reference.Count, text.Count], text.Count, reference.Count);
    }

    /// <summary>ROUGE-Lsum: the same of each line of the reference with all lines of the text.</summary>
    /// <param name="given">The text to score.</param>
    /// <param name="expected">The reference.</param>
    /// <param name="stems">Whether words are stemmed.</param>
    public static RougeScore OfLines(string given, string expected, bool stems = false)
    {
        var (text, reference) = (Lines(given, stems), Lines(expected, stems));
        var (left, leftInReference) = (Occurrences(text), Occurrences(reference));
        var hits = 0L;
        foreach (var line in reference)
        {
            // A word counts at most as often as each side has it.
            foreach (var word in text.SelectMany(l => Common(line, l)).Distinct().Order().Select(i => line[i]).Where(w => left.GetValueOrDefault(w) > 0 && leftInReference[w] > 0))
            {
                hits++;
                left[word]--;
                leftInReference[word]--;
            }
        }

        return RougeScore.Of(hits, text.Sum(static l => l.Count), reference.Sum(static l => l.Count));
    }

    /// <summary>The words of a text.</summary>
    /// <param name="text">The text.</param>
    /// <param name="stems">Whether words are stemmed.</param>
    internal static List<string> Words(string text, bool stems)
    {
        ArgumentNullException.ThrowIfNull(text);
        var (words, word) = (new List<string>(), new StringBuilder());
        void End()
        {
            if (word.Length > 0)
            {
                words.Add(stems && word.Length > 3 ? PorterStemmer.Stem(word.ToString()) : word.ToString());
                _ = word.Clear();
            }
        }

        // The only letter whose lower case is two characters, of which the first is an i.
        foreach (var letter in text.Replace("\u0130", "i\u0307", StringComparison.Ordinal).ToLowerInvariant())
        {
            if (char.IsAsciiLetterLower(letter) || char.IsAsciiDigit(letter))
            {
                _ = word.Append(letter);
            }
            else
            {
                End();
            }
        }

        End();
        return words;
    }

    private static List<List<string>> Lines(string text, bool stems)
    {
        ArgumentNullException.ThrowIfNull(text);
        return [.. text.Split('\n').Where(static l => l.Length > 0).Select(l => Words(l, stems))];
    }

    private static Dictionary<string, int> Occurrences(List<List<string>> lines) =>
        lines.SelectMany(static l => l).GroupBy(static w => w).ToDictionary(static g => g.Key, static g => g.Count());

    private static int[,] Table(List<string> reference, List<string> text)
    {
        var table = new int[reference.Count + 1, text.Count + 1];
        for (var i = 1; i <= reference.Count; i++)
        {
            for (var j = 1; j <= text.Count; j++)
            {
                table[i, j] = reference[i - 1] == text[j - 1] ? table[i - 1, j - 1] + 1 : Math.Max(table[i - 1, j], table[i, j - 1]);
            }
        }

        return table;
    }

    // Places in the reference of a longest common subsequence; of several, the one that rouge-score finds.
    private static List<int> Common(List<string> reference, List<string> text)
    {
        var (table, places) = (Table(reference, text), new List<int>());
        for (var (i, j) = (reference.Count, text.Count); i > 0 && j > 0;)
        {
            if (reference[i - 1] == text[j - 1])
            {
                places.Add(i - 1);
                (i, j) = (i - 1, j - 1);
            }
            else if (table[i, j - 1] > table[i - 1, j])
            {
                j--;
            }
            else
            {
                i--;
            }
        }

        return places;
    }
}

/// <summary>A ROUGE score.</summary>
/// <param name="Precision">Fraction of the text that the reference has.</param>
/// <param name="Recall">Fraction of the reference that the text has.</param>
/// <param name="FMeasure">Harmonic mean of both.</param>
internal sealed record RougeScore(double Precision, double Recall, double FMeasure)
{
    internal static RougeScore Of(long shared, int given, int expected)
    {
        var (precision, recall) = ((double)shared / Math.Max(given, 1), (double)shared / Math.Max(expected, 1));
        return new RougeScore(precision, recall, precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0);
    }
}
