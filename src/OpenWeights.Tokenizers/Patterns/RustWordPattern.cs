using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>The pattern of "Whitespace", <c>\w+|[^\w\s]+</c> as Rust's regex crate reads it: runs of word characters and runs of other visible ones.</summary>
internal sealed class RustWordPattern : TextPattern
{
    public override void FindMatches(ReadOnlySpan<char> text, List<PatternMatch> matches)
    {
        var start = 0;
        var kind = -1;
        for (var i = 0; i <= text.Length;)
        {
            var units = 1;
            var next = -1;
            if (i < text.Length)
            {
                _ = Rune.DecodeFromUtf16(text[i..], out var rune, out units);
                next = WordCharacters.IsWord(rune.Value) ? 1 : WordCharacters.IsSpace(rune.Value) ? 0 : 2;
            }

            if (next != kind)
            {
                if (i > start)
                {
                    matches.Add(new PatternMatch(start, i, kind != 0));
                }

                start = i;
                kind = next;
            }

            i += units;
        }
    }
}
