using System.Globalization;

namespace OpenWeights.Tokenizers;

/// <summary>
/// Reads a regular expression as Oniguruma 6.9 reads it in Ruby syntax, which is what tokenizer.json's expressions are written in
/// (doc/RE of kkos/oniguruma). What sets of code points, repetition and looking around cannot say is refused.
/// </summary>
internal sealed class OnigurumaParser
{
    private readonly string _text;
    private readonly OnigurumaClassParser _classes;
    private int _at;
    private Options _options;
    private int _depth;

    private OnigurumaParser(string text)
    {
        _text = text;
        _classes = new OnigurumaClassParser(text);
    }

    [Flags]
    private enum Options
    {
        None = 0,
        IgnoreCase = 1,
        DotMatchesAll = 2,
        Extended = 4,
    }

    /// <summary>Reads an expression.</summary>
    /// <exception cref="FormatException">It is malformed or cannot be translated; the message says what and where.</exception>
    public static PatternNode Parse(string text)
    {
        var parser = new OnigurumaParser(text);
        var node = parser.ReadAlternation();
        return parser._at == text.Length ? node : throw parser.Error("has a closing parenthesis without an opening one");
    }

    private FormatException Error(string what) => new($"{what}, at character {_at}");

    private PatternNode ReadAlternation()
    {
        if (++_depth > 200)
        {
            throw Error("is nested too deeply");
        }

        var options = _options;
        var choices = new List<PatternNode> { ReadSequence() };
        while (_at < _text.Length && _text[_at] == '|')
        {
            _at++;
            choices.Add(ReadSequence());
        }

        _options = options;
        _depth--;
        return choices.Count == 1 ? choices[0] : new PatternNode.Alternation(choices);
    }

    private PatternNode.Sequence ReadSequence()
    {
        var parts = new List<PatternNode>();
        var lastLiteral = -1;
        while (_at < _text.Length && _text[_at] is not ('|' or ')'))
        {
            if ((_options & Options.Extended) != 0 && SkipExtended())
            {
                continue;
            }

            var literal = -1;
            var part = ReadAtom(ref literal);
            if (part is null)
            {
                continue;
            }

            if ((_options & Options.IgnoreCase) != 0 && literal >= 0 && lastLiteral >= 0 && CaseFolding.MayContract(lastLiteral, literal))
            {
                throw Error("ignores case in letters that may be one character, such as ss and ß, which is not supported");
            }

            lastLiteral = literal;
            parts.Add(ReadQuantifiers(part));
        }

        return new PatternNode.Sequence(parts);
    }

    private bool SkipExtended()
    {
        if (char.IsWhiteSpace(_text[_at]))
        {
            _at++;
            return true;
        }

        if (_text[_at] != '#')
        {
            return false;
        }

        var end = _text.IndexOf('\n', _at);
        _at = end < 0 ? _text.Length : end + 1;
        return true;
    }

    private PatternNode? ReadAtom(ref int literal)
    {
        switch (_text[_at])
        {
            case '(':
                return ReadGroup();
            case '[':
                var set = _classes.ReadBracket(ref _at, (_options & Options.IgnoreCase) != 0);
                return new PatternNode.Set(set);
            case '.':
                _at++;
                return new PatternNode.Set((_options & Options.DotMatchesAll) != 0 ? CodePointSet.All : CodePointSet.Of('\n').Not());
            case '^':
                _at++;
                return PatternPlaces.LineStart();
            case '$':
                _at++;
                return PatternPlaces.LineEnd();
            case '*' or '+' or '?':
                throw Error("repeats nothing");
            case '\\':
                return ReadEscape(ref literal);
            default:
                literal = OnigurumaClassParser.CodePointAt(_text, ref _at);
                return Literal(literal);
        }
    }

    private PatternNode.Set Literal(int codePoint)
    {
        var set = CodePointSet.Of(codePoint);
        if ((_options & Options.IgnoreCase) == 0)
        {
            return new PatternNode.Set(set);
        }

        return CaseFolding.Expanding.Contains(codePoint)
            ? throw Error("ignores case in a letter that may be several characters, such as ß and ss, which is not supported")
            : new PatternNode.Set(CaseFolding.Close(set));
    }

    private PatternNode? ReadGroup()
    {
        _at++;
        if (_at < _text.Length && _text[_at] != '?')
        {
            return ReadGroupBody("?:");
        }

        foreach (var kind in new[] { "?:", "?=", "?!", "?>", "?<=", "?<!" })
        {
            if (string.CompareOrdinal(_text, _at, kind, 0, kind.Length) == 0)
            {
                _at += kind.Length;
                return ReadGroupBody(kind);
            }
        }

        if (string.CompareOrdinal(_text, _at, "?#", 0, 2) == 0)
        {
            var end = _text.IndexOf(')', _at);
            _at = end < 0 ? throw Error("has a comment without an end") : end + 1;
            return null;
        }

        if (string.CompareOrdinal(_text, _at, "?<", 0, 2) == 0 || string.CompareOrdinal(_text, _at, "?'", 0, 2) == 0)
        {
            var end = _text.IndexOf(_text[_at + 1] == '<' ? '>' : '\'', _at + 2);
            _at = end < 0 ? throw Error("has a group name without an end") : end + 1;
            return ReadGroupBody("?:");
        }

        return ReadOptions();
    }

    private PatternNode ReadGroupBody(string kind)
    {
        var options = _options;
        var body = ReadAlternation();
        _options = options;
        if (_at >= _text.Length)
        {
            throw Error("has an opening parenthesis without a closing one");
        }

        _at++;
        return kind == "?:" ? body : new PatternNode.Group(kind, body);
    }

    private PatternNode ReadOptions()
    {
        var start = _at++;
        var options = _options;
        var isOff = false;
        for (; _at < _text.Length; _at++)
        {
            var option = _text[_at] switch { 'i' => Options.IgnoreCase, 'm' => Options.DotMatchesAll, 'x' => Options.Extended, _ => Options.None };
            if (option == Options.None)
            {
                if (_text[_at] != '-')
                {
                    break;
                }

                isOff = true;
            }

            options = isOff ? options & ~option : options | option;
        }

        if (_at < _text.Length && _text[_at] == ':')
        {
            _at++;
            var outer = _options;
            _options = options;
            var body = ReadGroupBody("?:");
            _options = outer;
            return body;
        }

        if (_at < _text.Length && _text[_at] == ')')
        {
            // The rest of the enclosing group, its further choices included, is read with these options: a(?i)b|c is a(?i:b|c).
            _at++;
            _options = options;
            return ReadAlternation();
        }

        throw Error($"has the group ({_text[start..Math.Min(_text.Length, _at + 1)]}, which is not supported");
    }

    private PatternNode ReadQuantifiers(PatternNode part)
    {
        while (true)
        {
            if ((_options & Options.Extended) != 0 && _at < _text.Length && SkipExtended())
            {
                continue;
            }

            var start = _at;
            if (!TryReadCount(out var least, out var most, out var isInterval))
            {
                return part;
            }

            if (part is PatternNode.Place or PatternNode.Group { Kind: not "?>" })
            {
                _at = start;
                throw Error("repeats a place");
            }

            part = Repeat(part, least, most, isInterval);
        }
    }

    private PatternNode Repeat(PatternNode part, int least, int? most, bool isInterval)
    {
        var next = _at < _text.Length ? _text[_at] : '\0';
        if (next == '?')
        {
            _at++;

            // A fixed count cannot be lazy: in Ruby syntax the question mark makes it optional.
            return isInterval && least == most
                ? new PatternNode.Repeat(new PatternNode.Repeat(part, least, most, false), 0, 1, false)
                : new PatternNode.Repeat(part, least, most, true);
        }

        var repeat = new PatternNode.Repeat(part, least, most, false);
        if (next == '+' && !isInterval)
        {
            _at++;
            return new PatternNode.Group("?>", repeat);
        }

        return repeat;
    }

    private bool TryReadCount(out int least, out int? most, out bool isInterval)
    {
        isInterval = false;
        (least, most) = (0, null);
        switch (_at < _text.Length ? _text[_at] : '\0')
        {
            case '*':
                _at++;
                return true;
            case '+':
                least = 1;
                _at++;
                return true;
            case '?':
                most = 1;
                _at++;
                return true;
            case '{':
                isInterval = TryReadInterval(out least, out most);
                return isInterval;
            default:
                return false;
        }
    }

    /// <summary><c>{n}</c>, <c>{n,}</c>, <c>{,m}</c> or <c>{n,m}</c>; anything else in braces is text.</summary>
    private bool TryReadInterval(out int least, out int? most)
    {
        (least, most) = (0, null);
        var end = _text.IndexOf('}', _at);
        var parts = end < 0 ? [] : _text[(_at + 1)..end].Split(',');
        if (parts.Length is 0 or > 2 || parts.Any(p => p.Any(c => !char.IsAsciiDigit(c))) || parts.All(p => p.Length == 0))
        {
            return false;
        }

        if (parts.Any(p => p.Length > 5))
        {
            throw Error("repeats more than 99999 times");
        }

        least = parts[0].Length == 0 ? 0 : int.Parse(parts[0], CultureInfo.InvariantCulture);
        most = parts.Length == 1 ? least : parts[1].Length == 0 ? null : int.Parse(parts[1], CultureInfo.InvariantCulture);
        if (most < least)
        {
            throw Error("repeats at most less often than at least, which is not supported");
        }

        _at = end + 1;
        return true;
    }

    private PatternNode ReadEscape(ref int literal)
    {
        var escape = _at + 1 < _text.Length ? _text[_at + 1] : throw Error("ends in a backslash");
        switch (escape)
        {
            case 'A' or 'z':
                _at += 2;
                return new PatternNode.Place(@"\" + escape);
            case 'Z':
                _at += 2;
                return PatternPlaces.LastLineEnd();
            case 'b' or 'B':
                _at += 2;
                return PatternPlaces.WordBoundary(escape == 'b');
            case 'N' or 'O':
                _at += 2;
                return new PatternNode.Set(escape == 'O' ? CodePointSet.All : CodePointSet.Of('\n').Not());
            case 'R':
                _at += 2;
                return PatternPlaces.LineBreak();
            case 'G' or 'K' or 'X' or 'Y' or 'y' or 'k' or 'g' or (>= '1' and <= '9'):
                throw Error($"has \\{escape}, which is not supported");
            default:
                if (_classes.TryReadSet(ref _at, isInBracket: false) is { } set)
                {
                    return new PatternNode.Set(set);
                }

                literal = _classes.ReadEscapedCharacter(ref _at);
                return Literal(literal);
        }
    }
}
