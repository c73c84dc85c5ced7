namespace OpenWeights.Tokenizers;

/// <summary>Oniguruma's anchors, as character sets and lookarounds.</summary>
internal static class PatternPlaces
{
    /// <summary><c>^</c>: the start, or after a line feed that does not end the text.</summary>
    public static PatternNode.Group LineStart() => new("?=", new PatternNode.Alternation(
    [
        new PatternNode.Place(@"\A"),
        new PatternNode.Sequence(
        [
            new PatternNode.Group("?<=", new PatternNode.Set(CodePointSet.Of('\n'))),
            new PatternNode.Group("?!", new PatternNode.Place(@"\z")),
        ]),
    ]));

    /// <summary><c>$</c>: the end, or before a line feed.</summary>
    public static PatternNode.Group LineEnd() => new("?=", new PatternNode.Alternation(
    [
        new PatternNode.Place(@"\z"),
        new PatternNode.Group("?=", new PatternNode.Set(CodePointSet.Of('\n'))),
    ]));

    /// <summary><c>\R</c>: a line break of any kind.</summary>
    public static PatternNode.Group LineBreak() => new("?>", new PatternNode.Alternation(
    [
        new PatternNode.Sequence([new PatternNode.Set(CodePointSet.Of('\r')), new PatternNode.Set(CodePointSet.Of('\n'))]),
        new PatternNode.Set(CodePointSet.Of([('\n', '\r'), (0x85, 0x85), (0x2028, 0x2029)])),
    ]));

    /// <summary><c>\b</c> or <c>\B</c>: between a word character and another, or not.</summary>
    public static PatternNode.Group WordBoundary(bool isBoundary)
    {
        var word = new PatternNode.Set(CharacterProperties.Find("word")!);
        PatternNode Between(string before, string after) =>
            new PatternNode.Sequence([new PatternNode.Group(before, word), new PatternNode.Group(after, word)]);

        return new PatternNode.Group("?=", new PatternNode.Alternation(isBoundary
            ? [Between("?<=", "?!"), Between("?<!", "?=")]
            : [Between("?<=", "?="), Between("?<!", "?!")]));
    }

    /// <summary><c>\Z</c>: the end, or before a line feed that ends the text.</summary>
    public static PatternNode.Group LastLineEnd() => new("?=", new PatternNode.Sequence(
        [new PatternNode.Repeat(new PatternNode.Set(CodePointSet.Of('\n')), 0, 1, false), new PatternNode.Place(@"\z")]));
}
