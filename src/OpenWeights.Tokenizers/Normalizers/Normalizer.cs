using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>A step that rewrites text before it is cut.</summary>
internal abstract class Normalizer
{
    /// <summary>Whether the text certainly stays unchanged; false if that cannot be decided cheaply.</summary>
    public virtual bool Leaves(ReadOnlySpan<char> text) => false;

    /// <summary>Writes the rewritten source.</summary>
    public abstract void Write(in SourceText source, AlignedText output);
}

/// <summary>"NFC", "NFD", "NFKC" and "NFKD".</summary>
internal sealed class UnicodeNormalizer(UnicodeForm form) : Normalizer
{
    public override bool Leaves(ReadOnlySpan<char> text) => form.FirstUnstable(text) < 0;

    public override void Write(in SourceText source, AlignedText output) => form.Write(source, output);
}

/// <summary>"ByteLevel" as a normalizer: every UTF-8 byte is replaced by its printable character.</summary>
internal sealed class ByteLevelNormalizer : Normalizer
{
    public override void Write(in SourceText source, AlignedText output) =>
        ByteLevelWriter.Write(source, 0, source.Chars.Length, output);
}

/// <summary>"Lowercase": the lower case of every character, independent of context (Unicode 17, as Rust's <c>char::to_lowercase</c>).</summary>
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

/// <summary>A normalizer that rewrites every character by itself.</summary>
internal abstract class CharacterNormalizer : Normalizer
{
    public override void Write(in SourceText source, AlignedText output)
    {
        var text = source.Chars;
        Span<char> units = stackalloc char[4];
        for (var i = 0; i < text.Length;)
        {
            _ = Rune.DecodeFromUtf16(text[i..], out var rune, out var length);
            var start = source.InputStart(i);
            var end = source.InputEnd(i + length - 1);
            output.Append(units[..Rewrite(rune, units)], start, end);
            i += length;
        }
    }

    /// <summary>Writes what becomes of a character, at most four units.</summary>
    /// <returns>Number of units.</returns>
    protected abstract int Rewrite(Rune rune, Span<char> units);
}

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
