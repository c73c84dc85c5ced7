namespace OpenWeights.Tokenizers;

/// <summary>A division of all code points into kinds, such that every given set is made of whole kinds; each kind has a letter.</summary>
internal sealed class CodePointKinds
{
    private const char FirstLetter = 'A';

    private readonly char[] _bmp = new char[0x10000];
    private readonly int[] _astralStarts;
    private readonly char[] _astralLetters;
    private readonly int[] _examples;

    /// <param name="sets">The sets that must be made of whole kinds.</param>
    public CodePointKinds(IReadOnlyList<CodePointSet> sets)
    {
        var distinct = sets.DistinctBy(s => string.Join(',', s.Ranges)).ToArray();
        var starts = distinct.SelectMany(s => s.Ranges).SelectMany(r => new[] { r.First, r.Last + 1 })
            .Append(0).Append(0x10000).Where(c => c <= 0x10FFFF).Distinct().Order().ToArray();
        var letters = new Dictionary<string, char>();
        var examples = new List<int>();
        var letterAt = new char[starts.Length];
        for (var i = 0; i < starts.Length; i++)
        {
            var kind = string.Concat(distinct.Select(s => s.Contains(starts[i]) ? '1' : '0'));
            if (!letters.TryGetValue(kind, out var letter))
            {
                letter = (char)(FirstLetter + letters.Count);
                letters.Add(kind, letter);
                examples.Add(starts[i]);
            }

            letterAt[i] = letter;
            var end = i + 1 < starts.Length ? starts[i + 1] : 0x110000;
            if (starts[i] < 0x10000)
            {
                _bmp.AsSpan(starts[i]..Math.Min(end, 0x10000)).Fill(letter);
            }
        }

        var firstAstral = Array.IndexOf(starts, 0x10000);
        _astralStarts = starts[firstAstral..];
        _astralLetters = letterAt[firstAstral..];
        _examples = [.. examples];
    }

    /// <summary>The set in letters, as a class of a .NET expression.</summary>
    public string ClassOf(CodePointSet set)
    {
        var letters = Enumerable.Range(0, _examples.Length).Where(i => set.Contains(_examples[i])).Select(i => (char)(FirstLetter + i)).ToArray();
        return letters.Length switch
        {
            0 => "(?!)",
            1 => Escape(letters[0]),
            _ => "[" + string.Concat(letters.Select(Escape)) + "]",
        };
    }

    /// <summary>Writes the letter of every code point of a text.</summary>
    /// <returns>Number of code points.</returns>
    public int Rewrite(ReadOnlySpan<char> text, Span<char> letters)
    {
        var count = 0;
        for (var i = 0; i < text.Length; i++)
        {
            var unit = text[i];
            if (char.IsHighSurrogate(unit) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1]))
            {
                letters[count++] = Astral(char.ConvertToUtf32(unit, text[++i]));
            }
            else
            {
                letters[count++] = _bmp[unit];
            }
        }

        return count;
    }

    private static string Escape(char letter) =>
        char.IsAsciiLetter(letter) ? letter.ToString() : $"\\u{(int)letter:X4}";

    private char Astral(int codePoint)
    {
        var at = Array.BinarySearch(_astralStarts, codePoint);
        return _astralLetters[at >= 0 ? at : ~at - 1];
    }
}
