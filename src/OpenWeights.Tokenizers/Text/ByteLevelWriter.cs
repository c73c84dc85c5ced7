using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>Writes text in the byte-level alphabet.</summary>
internal static class ByteLevelWriter
{
    /// <summary>Writes the UTF-8 bytes of a range of the source, each as its character; all bytes of a character come from its range.</summary>
    public static void Write(in SourceText source, int start, int end, AlignedText output)
    {
        Span<byte> bytes = stackalloc byte[4];
        for (var i = start; i < end;)
        {
            _ = Rune.DecodeFromUtf16(source.Chars[i..end], out var rune, out var units);
            var count = rune.EncodeToUtf8(bytes);
            for (var j = 0; j < count; j++)
            {
                output.Append(ByteLevelAlphabet.CharacterOf(bytes[j]), source.InputStart(i), source.InputEnd(i + units - 1));
            }

            i += units;
        }
    }
}
