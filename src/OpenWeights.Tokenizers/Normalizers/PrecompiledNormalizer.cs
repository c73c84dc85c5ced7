using System.Globalization;
using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>
/// "Precompiled": SentencePiece's table of replacements, applied as the reference does it: to a grapheme of fewer than six UTF-8
/// bytes as a whole where some beginning of it is in the table (the rest of it then vanishes), else character by character.
/// </summary>
internal sealed class PrecompiledNormalizer(CharacterMap map) : Normalizer
{
    private const int LongestGrapheme = 5;

    private readonly bool[] _keepsAscii = [.. Enumerable.Range(0, 128).Select(c => map.ShortestPrefix([(byte)c]) is null)];

    public override bool Leaves(ReadOnlySpan<char> text) => FirstTouched(text, 0) == text.Length;

    public override void Write(in SourceText source, AlignedText output)
    {
        var text = source.Chars;
        for (var i = 0; i < text.Length;)
        {
            var touched = FirstTouched(text, i);
            output.Append(source, i, touched - i);
            i = touched;
            if (i < text.Length)
            {
                var length = StringInfo.GetNextTextElementLength(text[i..]);
                WriteGrapheme(source, i, length, output);
                i += length;
            }
        }

        // As in the reference, what follows characters that vanish at the start stands for them.
        output.StartAt(source.InputStart(0));
    }

    /// <summary>The first place that is not a plain ASCII character which the table leaves alone and that stands alone.</summary>
    private int FirstTouched(ReadOnlySpan<char> text, int start)
    {
        for (var i = start; i < text.Length; i++)
        {
            var isAlone = text[i] < 128 && _keepsAscii[text[i]] && (i + 1 == text.Length || text[i + 1] < 128) && text[i] != '\r';
            if (!isAlone)
            {
                return i;
            }
        }

        return text.Length;
    }

    private void WriteGrapheme(in SourceText source, int start, int length, AlignedText output)
    {
        Span<byte> bytes = stackalloc byte[LongestGrapheme + 1];
        var grapheme = source.Chars.Slice(start, length);
        if (length <= LongestGrapheme && Encoding.UTF8.GetByteCount(grapheme) <= LongestGrapheme)
        {
            var count = Encoding.UTF8.GetBytes(grapheme, bytes);
            if (map.ShortestPrefix(bytes[..count]) is { } replacement)
            {
                output.Append(replacement, source.InputStart(start), source.InputEnd(start + length - 1));
                return;
            }
        }

        for (var i = start; i < start + length;)
        {
            _ = Rune.DecodeFromUtf16(source.Chars[i..], out var rune, out var units);
            if (map.ShortestPrefix(bytes[..rune.EncodeToUtf8(bytes)]) is { } replacement)
            {
                output.Append(replacement, source.InputStart(i), source.InputEnd(i + units - 1));
            }
            else
            {
                output.Append(source, i, units);
            }

            i += units;
        }
    }
}
