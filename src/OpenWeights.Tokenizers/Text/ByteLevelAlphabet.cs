using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>
/// GPT-2's way to write any byte as a visible character: printable Latin-1 bytes as themselves, the others as the
/// characters from U+0100 on (openai/gpt-2, <c>bytes_to_unicode</c>).
/// </summary>
internal static class ByteLevelAlphabet
{
    private const int Characters = 256 + 68;

    private static readonly char[] s_characters = Build();
    private static readonly short[] s_bytes = Invert();

    /// <summary>The printable character of a byte.</summary>
    public static char CharacterOf(byte value) => s_characters[value];

    /// <summary>The characters of all bytes, in the bytes' order.</summary>
    public static ReadOnlySpan<char> All => s_characters;

    /// <summary>The byte of a printable character, or -1.</summary>
    public static int ByteOf(char character) => character < Characters ? s_bytes[character] : -1;

    /// <summary>The bytes of a token given in UTF-8.</summary>
    /// <returns>False where the token has a character outside the alphabet.</returns>
    public static bool TryDecode(ReadOnlySpan<byte> token, ref byte[] bytes, out int count)
    {
        count = 0;
        if (bytes.Length < token.Length)
        {
            bytes = new byte[token.Length * 2];
        }

        for (var i = 0; i < token.Length; i++)
        {
            // The alphabet's characters take one or two bytes in UTF-8.
            int character = token[i];
            if (character >= 0x80)
            {
                if (character is < 0xC0 or > 0xDF || i + 1 == token.Length)
                {
                    return false;
                }

                character = ((character & 0x1F) << 6) | (token[++i] & 0x3F);
            }

            var value = ByteOf((char)character);
            if (value < 0)
            {
                return false;
            }

            bytes[count++] = (byte)value;
        }

        return true;
    }

    /// <summary>Writes bytes in the alphabet, in UTF-8: at most twice as many.</summary>
    /// <returns>Number of bytes written.</returns>
    public static int Encode(ReadOnlySpan<byte> bytes, Span<byte> destination)
    {
        var count = 0;
        foreach (var value in bytes)
        {
            var character = s_characters[value];
            if (character < 0x80)
            {
                destination[count++] = (byte)character;
            }
            else
            {
                destination[count++] = (byte)(0xC0 | (character >> 6));
                destination[count++] = (byte)(0x80 | (character & 0x3F));
            }
        }

        return count;
    }

    private static char[] Build()
    {
        var characters = new char[256];
        var next = 256;
        for (var i = 0; i < 256; i++)
        {
            var isPrintable = i is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or (>= 0xAE and <= 0xFF);
            characters[i] = (char)(isPrintable ? i : next++);
        }

        return characters;
    }

    private static short[] Invert()
    {
        var bytes = new short[Characters];
        Array.Fill(bytes, (short)-1);
        for (var i = 0; i < 256; i++)
        {
            bytes[s_characters[i]] = (short)i;
        }

        return bytes;
    }
}

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
