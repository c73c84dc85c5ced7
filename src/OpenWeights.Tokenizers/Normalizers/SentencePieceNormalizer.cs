using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>SentencePiece's own normalization (google/sentencepiece, normalizer.cc): replacements, spaces as U+2581, the dummy prefix.</summary>
/// <param name="map">Replacements, the longest that fits each time; null for none.</param>
/// <param name="protectedPieces">Texts that stay as they are.</param>
/// <param name="addsDummyPrefix">Whether a space is put before the text.</param>
/// <param name="removesExtraWhitespaces">Whether spaces at the edges vanish and runs of spaces become one.</param>
internal sealed class SentencePieceNormalizer(
    CharacterMap? map, AddedTokenMatcher protectedPieces, bool addsDummyPrefix, bool removesExtraWhitespaces) : Normalizer
{
    /// <summary>The character that SentencePiece uses for a space.</summary>
    public const string Mark = "\u2581";

    public override bool Leaves(ReadOnlySpan<char> text) =>
        text.IsEmpty || (map is null && !addsDummyPrefix && !removesExtraWhitespaces && !text.Contains(' '));

    public override void Write(in SourceText source, AlignedText output)
    {
        var text = source.Chars;
        var bytes = map is null ? [] : Encoding.UTF8.GetBytes(text.ToArray());
        var units = 0;
        var at = 0;
        var wasSpace = removesExtraWhitespaces;
        var isStart = true;
        while (units < text.Length)
        {
            var part = NextPart(text, bytes, units, at, out var unitCount, out var byteCount);
            var inputStart = source.InputStart(units);
            var inputEnd = source.InputEnd(units + unitCount - 1);
            units += unitCount;
            at += byteCount;
            part = wasSpace ? part.TrimStart(' ') : part;
            if (part.IsEmpty)
            {
                continue;
            }

            if (isStart && addsDummyPrefix)
            {
                output.Append(Mark, inputStart, inputEnd);
            }

            isStart = false;
            foreach (var unit in part)
            {
                output.Append(unit == ' ' ? Mark[0] : unit, inputStart, inputEnd);
            }

            wasSpace = removesExtraWhitespaces && part[^1] == ' ';
        }

        if (removesExtraWhitespaces)
        {
            output.TrimEnd(Mark[0]);
        }
    }

    /// <summary>The next normalized part of the text, and the length of its source.</summary>
    private ReadOnlySpan<char> NextPart(ReadOnlySpan<char> text, byte[] bytes, int units, int at, out int unitCount, out int byteCount)
    {
        if (!protectedPieces.IsEmpty && protectedPieces.Longest(text, units, out var to) is not null)
        {
            unitCount = to - units;
            byteCount = Encoding.UTF8.GetByteCount(text[units..to]);
            return text[units..to];
        }

        if (map?.LongestPrefix(bytes.AsSpan(at), out byteCount) is { } replacement)
        {
            unitCount = Encoding.UTF8.GetCharCount(bytes, at, byteCount);
            return replacement;
        }

        _ = Rune.DecodeFromUtf16(text[units..], out var rune, out unitCount);
        byteCount = rune.Utf8SequenceLength;
        return text.Slice(units, unitCount);
    }
}
