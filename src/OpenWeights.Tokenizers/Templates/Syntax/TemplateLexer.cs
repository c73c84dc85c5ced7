using OpenWeights.Tokenizers.Templates.Runtime;

namespace OpenWeights.Tokenizers.Templates.Syntax;

/// <summary>
/// Splits a template into text and tags, and tags into tokens, as jinja2 does with <c>trim_blocks</c> and <c>lstrip_blocks</c>: the
/// first newline after a block tag and the blanks before one on its line do not count; <c>-</c> strips all white space on its side of
/// any tag and <c>+</c> keeps what would be stripped.
/// </summary>
internal sealed class TemplateLexer
{
    private readonly string source;
    private readonly List<Token> tokens = [];
    private int position;
    private int line = 1;

    private TemplateLexer(string source) => this.source = source;

    /// <summary>The tokens, up to the end or up to where no token begins: whoever reads them may find a mistake before that place.</summary>
    public static List<Token> Tokenize(string template)
    {
        var normal = template.Replace("\r\n", "\n", StringComparison.Ordinal).Replace('\r', '\n');
        var lexer = new TemplateLexer(normal.EndsWith('\n') ? normal[..^1] : normal);
        try
        {
            lexer.Run();
            lexer.tokens.Add(new Token(TokenKind.End, "", lexer.line));
        }
        catch (TemplateFailure failure)
        {
            lexer.tokens.Add(new Token(TokenKind.Error, failure.Message, failure.Line));
        }

        return lexer.tokens;
    }

    private void Run()
    {
        while (position < source.Length)
        {
            var begin = FindTag(position);
            if (begin < 0)
            {
                AddData(source[position..]);
                Advance(source.Length);
                return;
            }

            switch (source[begin + 1])
            {
                case '#':
                    Text(begin, begin + 2, isVariable: false);
                    Comment();
                    break;
                case '{':
                    Text(begin, begin + 2, isVariable: true);
                    tokens.Add(new Token(TokenKind.VariableBegin, "", line));
                    Tag(isVariable: true);
                    break;
                default:
                    Block(begin);
                    break;
            }
        }
    }

    private int FindTag(int from)
    {
        for (var at = source.IndexOf('{', from); at >= 0 && at + 1 < source.Length; at = source.IndexOf('{', at + 1))
        {
            if (source[at + 1] is '{' or '%' or '#')
            {
                return at;
            }
        }

        return -1;
    }

    /// <summary>The text before a tag, stripped as the tag's sign says; then moves past the tag's opening.</summary>
    private void Text(int begin, int open, bool isVariable)
    {
        var sign = open < source.Length ? source[open] : ' ';
        AddData(Stripped(begin, sign, isVariable));
        Advance(sign is '-' or '+' ? open + 1 : open);
    }

    private string Stripped(int end, char sign, bool isVariable)
    {
        var start = position;
        if (sign == '-')
        {
            while (end > start && PyUnicode.IsSpace(source[end - 1]))
            {
                end--;
            }
        }
        else if (sign != '+' && !isVariable)
        {
            var blank = end;
            while (blank > start && source[blank - 1] != '\n' && PyUnicode.IsSpace(source[blank - 1]))
            {
                blank--;
            }

            // Only a tag that is the first on its line loses the blanks before it.
            if (blank == 0 || source[blank - 1] == '\n')
            {
                end = blank;
            }
        }

        return source[start..end];
    }

    private void AddData(string text)
    {
        if (text.Length > 0)
        {
            tokens.Add(new Token(TokenKind.Data, text, line));
        }
    }

    private void Comment()
    {
        var close = source.IndexOf("#}", position, StringComparison.Ordinal);
        if (close < 0)
        {
            throw TemplateFailure.Syntax("Missing end of comment tag", line);
        }

        var sign = close > position ? source[close - 1] : ' ';
        AfterBlock(close + 2, sign);
    }

    private void Block(int begin)
    {
        var sign = begin + 2 < source.Length ? source[begin + 2] : ' ';
        var inside = sign is '-' or '+' ? begin + 3 : begin + 2;
        if (RawOpening(inside) is { } afterRaw)
        {
            AddData(Stripped(begin, sign, isVariable: false));
            Advance(afterRaw);
            Raw();
            return;
        }

        Text(begin, begin + 2, isVariable: false);
        tokens.Add(new Token(TokenKind.BlockBegin, "", line));
        Tag(isVariable: false);
    }

    /// <summary>The position after <c>raw %}</c>, if that is what stands here.</summary>
    private int? RawOpening(int at)
    {
        var (end, sign) = Keyword(at, "raw");
        if (end < 0 || sign == '+')
        {
            return null;
        }

        return sign == '-' ? SkipSpace(end) : end;
    }

    private void Raw()
    {
        for (var at = source.IndexOf("{%", position, StringComparison.Ordinal); at >= 0; at = source.IndexOf("{%", at + 1, StringComparison.Ordinal))
        {
            var sign = at + 2 < source.Length ? source[at + 2] : ' ';
            var (end, endSign) = Keyword(sign is '-' or '+' ? at + 3 : at + 2, "endraw");
            if (end >= 0)
            {
                AddData(Stripped(at, sign, isVariable: false));
                AfterBlock(end, endSign);
                return;
            }
        }

        throw TemplateFailure.Syntax("Missing end of raw directive", line);
    }

    /// <summary>The position after <c>word %}</c> and the sign before the <c>%</c>; -1 if something else stands here.</summary>
    private (int End, char Sign) Keyword(int at, string word)
    {
        at = SkipSpace(at);
        if (string.CompareOrdinal(source, at, word, 0, word.Length) != 0)
        {
            return (-1, ' ');
        }

        at = SkipSpace(at + word.Length);
        var sign = at < source.Length && source[at] is '-' or '+' ? source[at++] : ' ';
        return string.CompareOrdinal(source, at, "%}", 0, 2) == 0 ? (at + 2, sign) : (-1, ' ');
    }

    /// <summary>Moves past the end of a block or comment and the white space that it strips.</summary>
    private void AfterBlock(int end, char sign)
    {
        if (sign == '-')
        {
            end = SkipSpace(end);
        }
        else if (sign != '+' && end < source.Length && source[end] == '\n')
        {
            end++;
        }

        Advance(end);
    }

    private void Tag(bool isVariable)
    {
        var brackets = new Stack<char>();
        while (position < source.Length)
        {
            if (brackets.Count == 0 && TagEnd(isVariable))
            {
                return;
            }

            if (PyUnicode.IsSpace(source[position]))
            {
                Advance(SkipSpace(position));
                continue;
            }

            var (token, end) = TagLexer.Next(source, position, line);
            if (token.Kind == TokenKind.Operator)
            {
                Balance(brackets, token.Text[0]);
            }

            tokens.Add(token);
            Advance(end);
        }
    }

    private bool TagEnd(bool isVariable)
    {
        var sign = source[position];
        var close = sign == '-' || (sign == '+' && !isVariable) ? position + 1 : position;
        if (string.CompareOrdinal(source, close, isVariable ? "}}" : "%}", 0, 2) != 0)
        {
            return false;
        }

        tokens.Add(new Token(isVariable ? TokenKind.VariableEnd : TokenKind.BlockEnd, "", line));
        if (isVariable)
        {
            Advance(sign == '-' ? SkipSpace(close + 2) : close + 2);
        }
        else
        {
            AfterBlock(close + 2, close > position ? sign : ' ');
        }

        return true;
    }

    private void Balance(Stack<char> brackets, char symbol)
    {
        switch (symbol)
        {
            case '(':
                brackets.Push(')');
                break;
            case '[':
                brackets.Push(']');
                break;
            case '{':
                brackets.Push('}');
                break;
            case ')' or ']' or '}':
                if (!brackets.TryPop(out var expected))
                {
                    throw TemplateFailure.Syntax($"unexpected '{symbol}'", line);
                }

                if (expected != symbol)
                {
                    throw TemplateFailure.Syntax($"unexpected '{symbol}', expected '{expected}'", line);
                }

                break;
        }
    }

    private int SkipSpace(int at)
    {
        while (at < source.Length && PyUnicode.IsSpace(source[at]))
        {
            at++;
        }

        return at;
    }

    private void Advance(int to)
    {
        line += source.AsSpan(position, to - position).Count('\n');
        position = to;
    }
}
