using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>A normalizer that maps or drops characters one by one.</summary>
/// <param name="map">The character to write for a code point, or -1 to drop it.</param>
internal sealed class FilterNormalizer(Func<int, int> map) : CharacterNormalizer
{
    /// <summary>"StripAccents": drops combining marks.</summary>
    public static FilterNormalizer StripAccents { get; } = new(c => UnicodeData.Instance.IsMark(c) ? -1 : c);

    /// <summary>"Nmt": drops control characters and writes white space of all kinds as a space (SentencePiece's nmt rules, as the reference has them).</summary>
    public static FilterNormalizer Nmt { get; } = new(c => c switch
    {
        (>= 0x01 and <= 0x08) or 0x0B or (>= 0x0E and <= 0x1F) or 0x7F or 0x8F or 0x9F => -1,
        0x09 or 0x0A or 0x0C or 0x0D or 0x1680 or (>= 0x200B and <= 0x200F) or 0x2028 or 0x2029 or 0x2581 or 0xFEFF or 0xFFFD => ' ',
        _ => c,
    });

    protected override int Rewrite(Rune rune, Span<char> units)
    {
        var mapped = map(rune.Value);
        return mapped < 0 ? 0 : new Rune(mapped).EncodeToUtf16(units);
    }
}
