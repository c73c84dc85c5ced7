using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>Matches every character, each alone, that a condition holds for.</summary>
/// <param name="condition">Whether a code point matches.</param>
internal sealed class CharacterPattern(Func<int, bool> condition) : TextPattern
{
    public override void FindMatches(ReadOnlySpan<char> text, List<PatternMatch> matches)
    {
        var last = 0;
        for (var i = 0; i < text.Length;)
        {
            _ = Rune.DecodeFromUtf16(text[i..], out var rune, out var units);
            if (condition(rune.Value))
            {
                if (last < i)
                {
                    matches.Add(new PatternMatch(last, i, false));
                }

                matches.Add(new PatternMatch(i, i + units, true));
                last = i + units;
            }

            i += units;
        }

        if (last < text.Length)
        {
            matches.Add(new PatternMatch(last, text.Length, false));
        }
    }
}
