namespace OpenWeights.Tokenizers;

/// <summary>"NFC", "NFD", "NFKC" and "NFKD".</summary>
internal sealed class UnicodeNormalizer(UnicodeForm form) : Normalizer
{
    public override bool Leaves(ReadOnlySpan<char> text) => form.FirstUnstable(text) < 0;

    public override void Write(in SourceText source, AlignedText output) => form.Write(source, output);
}
