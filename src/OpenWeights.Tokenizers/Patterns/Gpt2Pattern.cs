namespace OpenWeights.Tokenizers;

/// <summary>GPT-2's split pattern, by hand: <c>'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+</c>.</summary>
internal sealed class Gpt2Pattern : TilingPattern
{
    /// <summary>The pattern as files spell it.</summary>
    public const string Expression = @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

    private const byte Kinds = CharFlags.Letter | CharFlags.Number | CharFlags.White;

    public override int End(ReadOnlySpan<char> text, int start)
    {
        if (text[start] == '\'')
        {
            var suffix = Contraction(text, start);
            if (suffix > 0)
            {
                return start + suffix;
            }
        }

        // A space belongs to what follows it, unless that is white space.
        var at = text[start] == ' ' && start + 1 < text.Length ? start + 1 : start;
        var kind = (byte)(CharFlags.At(text, at, out var units) & Kinds);
        if ((kind & CharFlags.White) != 0)
        {
            return PatternScan.WhiteSpace(text, start);
        }

        at += units;
        while (at < text.Length && (CharFlags.At(text, at, out units) & Kinds) == kind)
        {
            at += units;
        }

        return at;
    }

    private static int Contraction(ReadOnlySpan<char> text, int start)
    {
        if (start + 1 >= text.Length)
        {
            return 0;
        }

        switch (text[start + 1])
        {
            case 's' or 't' or 'm' or 'd':
                return 2;
            case 'r' or 'v' when start + 2 < text.Length && text[start + 2] == 'e':
                return 3;
            case 'l' when start + 2 < text.Length && text[start + 2] == 'l':
                return 3;
            default:
                return 0;
        }
    }
}
