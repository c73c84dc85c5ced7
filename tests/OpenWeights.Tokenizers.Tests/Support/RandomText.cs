using System.Text;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>Texts that are hard for tokenizers, from a seed.</summary>
internal static class RandomText
{
    private static readonly string[] s_parts =
    [
        "a", "the", " the", "ing", "s", "'s", "'S", "'ſ", "'ll", "'RE", "’t", " ", "  ", "    ", "\n", "\r\n", "\n\n", "\t", "\u00A0", "\u3000", "\u0085",
        "1", "12", "3456", " 7", "½", "²", "Ⅷ", "٣", "𝟘", "é", "e\u0301", "e\u0323\u0302", "\u0301", "ß", "漢字", "你好世界", "かな", "か\u3099", "한국",
        "\u1112\u1161\u11AB", "😀", "👨\u200D👩\u200D👧", "𝒜", "𐐀", "ﬁ", "_", "-", "--", "...", "!", "?", ",", ".", "(", "[", "{", "}", "]", ")", "\\", "/", "$",
        "€", "+", "=", "<|x|>", "\0", "\u200B", "\uFEFF", "Ω", "жизнь", "שלום", "سلام", "क्षत्रिय", "ไทย", "HelloWorld", "getElementById", "def f(x):\n    return x",
        "<s>", "</s>", "<unk>", "<|im_start|>", "<|endoftext|>", "İ", "ı", "▁", "▁▁", "Ġ", "\U0010FFFF", "\u2028", "internationalization", "0x1F600",
    ];

    /// <summary>A text of up to so many parts.</summary>
    public static string Make(Random random, int parts)
    {
        var text = new StringBuilder();
        for (var i = random.Next(parts + 1); i > 0; i--)
        {
            _ = text.Append(s_parts[random.Next(s_parts.Length)]);
        }

        return text.ToString();
    }

    /// <summary>Any UTF-16, unpaired surrogates included.</summary>
    public static string MakeRaw(Random random, int units) =>
        string.Create(random.Next(units + 1), random, (span, r) =>
        {
            foreach (ref var unit in span)
            {
                unit = (char)(r.Next(4) == 0 ? 0xD800 + r.Next(0x800) : r.Next(3) == 0 ? r.Next(0x10000) : r.Next(0x80));
            }
        });
}
