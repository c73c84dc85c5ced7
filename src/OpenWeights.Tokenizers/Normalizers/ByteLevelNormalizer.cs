namespace OpenWeights.Tokenizers;

/// <summary>"ByteLevel" as a normalizer: every UTF-8 byte becomes the character that stands for it.</summary>
internal sealed class ByteLevelNormalizer : Normalizer
{
    public override void Write(in SourceText source, AlignedText output) =>
        ByteLevelWriter.Write(source, 0, source.Chars.Length, output);
}
