using System.Text;

namespace OpenWeights.Tune.Data.Files;

/// <summary>Handles NaN and Infinity, which Python's json writes although they are not JSON.</summary>
internal static class PythonNumbers
{
    private static readonly string[] s_words = ["-Infinity", "Infinity", "NaN"];

    /// <summary>Replaces them by null; returns the same bytes if there are none.</summary>
    internal static byte[] ToNull(byte[] utf8)
    {
        if (utf8.AsSpan().IndexOf("NaN"u8) < 0 && utf8.AsSpan().IndexOf("Infinity"u8) < 0)
        {
            return utf8;
        }

        using var changed = new MemoryStream(utf8.Length + 16);
        var inText = false;
        for (var i = 0; i < utf8.Length; i++)
        {
            if (!inText && Word(utf8.AsSpan(i)) is > 0 and var length)
            {
                changed.Write("null"u8);
                i += length - 1;
                continue;
            }

            changed.WriteByte(utf8[i]);
            if (inText && utf8[i] == '\\' && i + 1 < utf8.Length)
            {
                changed.WriteByte(utf8[++i]);
            }
            else if (utf8[i] == '"')
            {
                inText = !inText;
            }
        }

        return changed.ToArray();
    }

    private static int Word(ReadOnlySpan<byte> at)
    {
        foreach (var word in s_words)
        {
            if (at.Length >= word.Length && Ascii.Equals(at[..word.Length], word))
            {
                return word.Length;
            }
        }

        return 0;
    }
}
