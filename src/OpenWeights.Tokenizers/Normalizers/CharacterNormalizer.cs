using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>A normalizer that rewrites every character by itself.</summary>
internal abstract class CharacterNormalizer : Normalizer
{
    public override void Write(in SourceText source, AlignedText output)
    {
        var text = source.Chars;
        Span<char> units = stackalloc char[4];
        for (var i = 0; i < text.Length;)
        {
            _ = Rune.DecodeFromUtf16(text[i..], out var rune, out var length);
            var start = source.InputStart(i);
            var end = source.InputEnd(i + length - 1);
            output.Append(units[..Rewrite(rune, units)], start, end);
            i += length;
        }
    }

    /// <summary>Writes what becomes of a character, at most four units.</summary>
    /// <returns>How many units.</returns>
    protected abstract int Rewrite(Rune rune, Span<char> units);
}
