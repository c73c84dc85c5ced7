using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>"FixedLength": pieces of so many characters.</summary>
internal sealed class FixedLengthPreTokenizer(int length) : PreTokenizer
{
    public override void Apply(PreTokenizedText text)
    {
        foreach (var piece in text.Pieces)
        {
            var chars = text.Text.Chars.Slice(piece.Start, piece.Length);
            var start = 0;
            var characters = 0;
            for (var i = 0; i < chars.Length;)
            {
                _ = Rune.DecodeFromUtf16(chars[i..], out _, out var units);
                i += units;
                if (++characters == length || i == chars.Length)
                {
                    text.Add(piece.Start + start, i - start);
                    start = i;
                    characters = 0;
                }
            }
        }

        text.EndCut();
    }
}
