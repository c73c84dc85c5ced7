using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>"Lowercase": every character's lower case, whatever stands around it (Unicode 17, as Rust's <c>char::to_lowercase</c>).</summary>
internal sealed class LowercaseNormalizer : CharacterNormalizer
{
    protected override int Rewrite(Rune rune, Span<char> units)
    {
        // The one character whose lower case is two.
        if (rune.Value == 0x130)
        {
            units[0] = 'i';
            units[1] = '\u0307';
            return 2;
        }

        return Lower(rune).EncodeToUtf16(units);
    }

    private static Rune Lower(Rune rune) => rune.Value switch
    {
        // Unicode 17, which .NET 10 does not have.
        0xA7CE or 0xA7D2 or 0xA7D4 => new Rune(rune.Value + 1),
        >= 0x16EA0 and <= 0x16EB8 => new Rune(rune.Value + 0x1B),
        _ => Rune.ToLowerInvariant(rune),
    };
}
