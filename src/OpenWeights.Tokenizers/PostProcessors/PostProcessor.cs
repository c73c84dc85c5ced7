namespace OpenWeights.Tokenizers;

/// <summary>The template of special tokens around a text: their ids, and null for the text's own tokens.</summary>
/// <param name="Pieces">With special tokens.</param>
/// <param name="Trim">How ranges lose the white space at their edges, or null.</param>
internal sealed record PostProcessor(IReadOnlyList<int?> Pieces, OffsetTrim? Trim)
{
    /// <summary>Nothing around the text.</summary>
    public static PostProcessor None { get; } = new([null], null);

    /// <summary>How often the text's tokens appear.</summary>
    public int TextCount { get; } = Pieces.Count(p => p is null);

    /// <summary>This, then another one around it.</summary>
    public PostProcessor Then(PostProcessor outer) =>
        new([.. outer.Pieces.SelectMany(p => p is null ? Pieces : [p])], outer.Trim ?? Trim);
}

/// <summary>
/// The <c>trim_offsets</c> of "ByteLevel" and "RobertaProcessing": a token's range leaves out the white space at its edges.
/// </summary>
/// <param name="AddPrefixSpace">Whether a single space at the start of the text may have been put there by the tokenizer, and is then not left out.</param>
internal sealed record OffsetTrim(bool AddPrefixSpace)
{
    /// <summary>The range without white space at its edges.</summary>
    /// <param name="token">The token as the vocabulary spells it.</param>
    /// <param name="span">Its range.</param>
    /// <param name="isFirst">Whether it is the first of the text.</param>
    public TokenSpan Apply(string token, TokenSpan span, bool isFirst)
    {
        var leading = 0;
        while (leading < token.Length && IsSpace(token[leading]))
        {
            leading++;
        }

        var trailing = 0;
        while (trailing < token.Length && IsSpace(token[token.Length - 1 - trailing]))
        {
            trailing++;
        }

        if (leading == 1 && AddPrefixSpace && (isFirst || span.Start == 0))
        {
            leading = 0;
        }

        var start = Math.Min(span.Start + leading, span.End);
        var end = trailing > 0 && span.End >= trailing ? Math.Max(span.End - trailing, start) : span.End;
        return new TokenSpan(span.Id, start, end);
    }

    private static bool IsSpace(char unit) => unit == '\u0120' || char.IsWhiteSpace(unit);
}
