namespace OpenWeights.Tokenizers;

/// <summary>"Prepend": puts a text before any text that is not empty.</summary>
internal sealed class PrependNormalizer(string content) : Normalizer
{
    public override bool Leaves(ReadOnlySpan<char> text) => text.IsEmpty;

    public override void Write(in SourceText source, AlignedText output)
    {
        // What is put in shares the range of the first character.
        var isPair = char.IsHighSurrogate(source.Chars[0]) && source.Chars.Length > 1;
        output.Append(content, source.InputStart(0), source.InputEnd(isPair ? 1 : 0));
        output.Append(source, 0, source.Chars.Length);
    }
}
