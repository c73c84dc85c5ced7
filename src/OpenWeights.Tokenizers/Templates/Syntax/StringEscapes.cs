using System.Globalization;
using System.Text;

namespace OpenWeights.Tokenizers.Templates.Syntax;

/// <summary>The backslash escapes of string literals, which are Python's; an unknown one stands for itself, backslash included.</summary>
internal static class StringEscapes
{
    /// <exception cref="TemplateFailure">An escape is cut short.</exception>
    public static string Decode(ReadOnlySpan<char> text, int line)
    {
        if (!text.Contains('\\'))
        {
            return text.ToString();
        }

        var builder = new StringBuilder(text.Length);
        for (var at = 0; at < text.Length;)
        {
            if (text[at] != '\\')
            {
                _ = builder.Append(text[at++]);
                continue;
            }

            at += 1 + Escape(text[(at + 1)..], builder, line);
        }

        return builder.ToString();
    }

    /// <summary>Decodes what follows a backslash; the number of characters that it takes.</summary>
    private static int Escape(ReadOnlySpan<char> text, StringBuilder builder, int line)
    {
        switch (text[0])
        {
            case '\n':
                return 1;
            case 'x':
                return Hexadecimal(text, 2, @"truncated \xXX escape", builder, line);
            case 'u':
                return Hexadecimal(text, 4, @"truncated \uXXXX escape", builder, line);
            case 'U':
                return Hexadecimal(text, 8, @"truncated \UXXXXXXXX escape", builder, line);
            case 'N':
                throw TemplateFailure.Syntax(@"\N{...} escapes are not supported; write the character itself or \uXXXX", line);
            case >= '0' and <= '7':
                return Octal(text, builder);
        }

        var plain = text[0] switch
        {
            '\\' or '\'' or '"' => text[0],
            'a' => '\a',
            'b' => '\b',
            'f' => '\f',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\v',
            _ => '\0',
        };
        _ = plain == '\0' ? builder.Append('\\').Append(text[0]) : builder.Append(plain);
        return 1;
    }

    private static int Octal(ReadOnlySpan<char> text, StringBuilder builder)
    {
        var (value, length) = (0, 0);
        while (length < 3 && length < text.Length && text[length] is >= '0' and <= '7')
        {
            value = (value * 8) + text[length++] - '0';
        }

        _ = builder.Append((char)value);
        return length;
    }

    private static int Hexadecimal(ReadOnlySpan<char> text, int digits, string message, StringBuilder builder, int line)
    {
        if (text.Length < digits + 1
            || !uint.TryParse(text.Slice(1, digits), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var value))
        {
            throw TemplateFailure.Syntax(message, line);
        }

        if (value > 0x10FFFF)
        {
            throw TemplateFailure.Syntax("illegal Unicode character", line);
        }

        _ = value < 0x10000 ? builder.Append((char)value) : builder.Append(char.ConvertFromUtf32((int)value));
        return digits + 1;
    }
}
