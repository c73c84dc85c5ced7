using System.Runtime.CompilerServices;

namespace OpenWeights.Tokenizers;

/// <summary>Parts that the hand-written split patterns share.</summary>
internal static class PatternScan
{
    /// <summary>
    /// <c>\s+(?!\S)|\s+</c> at a white space: the whole run where the text ends with it, else all of it but the last, which goes with
    /// what follows; a single one is taken alone.
    /// </summary>
    public static int WhiteSpace(ReadOnlySpan<char> text, int start)
    {
        var end = EndOfRun(text, start, CharFlags.White);
        return end < text.Length && end - start > 1 ? end - 1 : end;
    }

    /// <summary>The end of the run of characters that have the flag, from <paramref name="start"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int EndOfRun(ReadOnlySpan<char> text, int start, byte flag)
    {
        while (start < text.Length && (CharFlags.At(text, start, out var units) & flag) != 0)
        {
            start += units;
        }

        return start;
    }
}
