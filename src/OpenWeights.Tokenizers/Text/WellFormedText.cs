namespace OpenWeights.Tokenizers;

/// <summary>UTF-16 without unpaired surrogates.</summary>
internal static class WellFormedText
{
    /// <summary>The text, with U+FFFD instead of every unpaired surrogate; not copied if there is none.</summary>
    public static ReadOnlySpan<char> Of(ReadOnlySpan<char> text)
    {
        var first = FirstUnpaired(text, 0);
        if (first < 0)
        {
            return text;
        }

        var copy = text.ToArray();
        for (var i = first; i >= 0; i = FirstUnpaired(copy, i + 1))
        {
            copy[i] = '\uFFFD';
        }

        return copy;
    }

    private static int FirstUnpaired(ReadOnlySpan<char> text, int start)
    {
        var i = start;
        while (true)
        {
            var skipped = text[i..].IndexOfAnyInRange('\uD800', '\uDFFF');
            if (skipped < 0)
            {
                return -1;
            }

            i += skipped;
            if (!char.IsHighSurrogate(text[i]) || i + 1 == text.Length || !char.IsLowSurrogate(text[i + 1]))
            {
                return i;
            }

            i += 2;
        }
    }
}
