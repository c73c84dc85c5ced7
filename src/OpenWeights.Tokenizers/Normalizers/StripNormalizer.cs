namespace OpenWeights.Tokenizers;

/// <summary>"Strip": drops white space at the start and the end.</summary>
internal sealed class StripNormalizer(bool left, bool right) : Normalizer
{
    public override bool Leaves(ReadOnlySpan<char> text) => Kept(text) == (0, text.Length);

    public override void Write(in SourceText source, AlignedText output)
    {
        var (start, length) = Kept(source.Chars);
        output.Append(source, start, length);
    }

    private (int Start, int Length) Kept(ReadOnlySpan<char> text)
    {
        var start = left ? WordCharacters.EndOfLeadingSpace(text) : 0;
        var end = right ? Math.Max(start, WordCharacters.StartOfTrailingSpace(text)) : text.Length;
        return (start, end - start);
    }
}
