namespace OpenWeights.Tokenizers;

/// <summary>What is put around the tokens of a text: ids, and the text's own tokens as null.</summary>
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
