using System.Globalization;

namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>
/// Reads the regular part of ECMAScript's patterns: characters, classes, groups, alternatives, repetitions, and anchors at the edges.
/// As in a JSON schema, a pattern without anchors may match anywhere.
/// </summary>
internal sealed class PatternParser
{
    private const int MostRepetitions = 2000;

    private static readonly CharSet s_digits = CharSet.Of(('0', '9'));
    private static readonly CharSet s_word = CharSet.Of(('0', '9'), ('A', 'Z'), ('a', 'z'), ('_', '_'));
    private static readonly CharSet s_space = CharSet.Any("\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff").Or(CharSet.Of((0x2000, 0x200a)));
    private static readonly CharSet s_anyButLineEnds = CharSet.Any("\n\r\u2028\u2029").Not();
    private static readonly GrammarNode s_anything = new GrammarNode.Repeat(new GrammarNode.Chars(CharSet.All), 0, null);

    private readonly string _pattern;
    private int _at;

    private PatternParser(string pattern) => _pattern = pattern;

    /// <summary>The texts in which a pattern matches.</summary>
    /// <exception cref="GrammarException">The pattern is invalid or is not regular.</exception>
    internal static CharAutomaton Parse(string pattern)
    {
        var parser = new PatternParser(pattern);
        var node = parser.Search();
        return parser._at < pattern.Length ? throw parser.Error("has a closing parenthesis too many") : CharAutomaton.Of(node);
    }

    // The alternatives, each with anything around it unless it is anchored.
    private GrammarNode Search()
    {
        var choices = new List<GrammarNode>();
        do
        {
            choices.Add(SearchOne());
        }
        while (Take('|'));

        return GrammarNode.AnyOf(choices);
    }

    private GrammarNode SearchOne()
    {
        var start = _at;
        if (IsWholeGroup())
        {
            _ = OpenGroup();
            var inside = Search();
            return Take(')') ? inside : throw Error("has a group that is not closed");
        }

        _at = start;
        var anchored = Take('^');
        var parts = Parts();
        var ends = Take('$');
        if (Peek() is not ('\0' or '|' or ')'))
        {
            throw Error("has an anchor in its middle, which is not supported");
        }

        return GrammarNode.Row([anchored ? GrammarNode.Empty : s_anything, .. parts, ends ? GrammarNode.Empty : s_anything]);
    }

    // Whether an alternative is one group and nothing else, so that anchors inside it are at its edges.
    private bool IsWholeGroup()
    {
        if (Peek() != '(')
        {
            return false;
        }

        var (start, depth) = (_at, 0);
        for (var at = _at; at < _pattern.Length; at++)
        {
            switch (_pattern[at])
            {
                case '\\':
                    at++;
                    break;
                case '[':
                    at = EndOfClass(at);
                    break;
                case '(':
                    depth++;
                    break;
                case ')' when --depth == 0:
                    var next = at + 1 < _pattern.Length ? _pattern[at + 1] : '\0';
                    return next is '\0' or '|' or ')' && _pattern.AsSpan(start, at - start).IndexOfAny('^', '$') >= 0;
            }
        }

        return false;
    }

    private int EndOfClass(int at)
    {
        for (at++; at < _pattern.Length && _pattern[at] != ']'; at++)
        {
            at += _pattern[at] == '\\' ? 1 : 0;
        }

        return at;
    }

    private GrammarNode Alternatives()
    {
        var choices = new List<GrammarNode>();
        do
        {
            choices.Add(GrammarNode.Row(Parts()));
            if (Peek() is '^' or '$')
            {
                throw Error("has an anchor inside a group, which is not supported");
            }
        }
        while (Take('|'));

        return GrammarNode.AnyOf(choices);
    }

    private List<GrammarNode> Parts()
    {
        var parts = new List<GrammarNode>();
        while (Peek() is not ('\0' or '|' or ')' or '^' or '$'))
        {
            parts.Add(Repeated(Atom()));
        }

        return parts;
    }

    private GrammarNode Repeated(GrammarNode part)
    {
        (int Least, int? Most)? times = Peek() switch
        {
            '*' => (0, null),
            '+' => (1, null),
            '?' => (0, 1),
            _ => null,
        };
        if (times is not null)
        {
            _at++;
        }
        else if (Peek() == '{' && Counts() is { } counts)
        {
            times = counts;
        }

        if (times is not var (least, most))
        {
            return part;
        }

        if (least > MostRepetitions || most > MostRepetitions)
        {
            throw Error($"repeats something more than {MostRepetitions} times, which is too large");
        }

        // What a lazy repetition matches is the same.
        _ = Take('?');
        return most < least ? throw Error("repeats something at most less often than at least")
            : Peek() is '*' or '+' ? throw Error("has nothing to repeat before a quantifier")
            : new GrammarNode.Repeat(part, least, most);
    }

    // {n}, {n,} or {n,m}; other text in braces is itself.
    private (int, int?)? Counts()
    {
        var close = _pattern.IndexOf('}', _at);
        var inside = close < 0 ? "" : _pattern[(_at + 1)..close];
        var parts = inside.Split(',');
        if (parts.Length > 2 || !Number(parts[0], out var least) || (parts.Length == 2 && parts[1].Length > 0 && !Number(parts[1], out _)))
        {
            return null;
        }

        _at = close + 1;
        return (least, parts.Length == 1 ? least : parts[1].Length == 0 ? null : int.Parse(parts[1], CultureInfo.InvariantCulture));
    }

    private static bool Number(string text, out int value) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value);

    private GrammarNode Atom()
    {
        switch (Peek())
        {
            case '(':
                var closes = OpenGroup();
                var inside = Alternatives();
                return closes && Take(')') ? inside : throw Error("has a group that is not closed");
            case '[':
                return new GrammarNode.Chars(Class());
            case '.':
                _at++;
                return new GrammarNode.Chars(s_anyButLineEnds);
            case '*' or '+' or '?':
                throw Error("has nothing to repeat before a quantifier");
            case '\\':
                return new GrammarNode.Chars(Escaped(inClass: false));
            default:
                return new GrammarNode.Chars(CharSet.One(Next()));
        }
    }

    private bool OpenGroup()
    {
        _at++;
        if (!Take('?') || Take(':'))
        {
            return true;
        }

        if (Peek() == '<' && _at + 1 < _pattern.Length && _pattern[_at + 1] is not ('=' or '!') && _pattern.IndexOf('>', _at) is > 0 and var end)
        {
            _at = end + 1;
            return true;
        }

        throw Error("looks ahead or behind, which is not supported");
    }

    private CharSet Class()
    {
        _at++;
        var (not, set) = (Take('^'), CharSet.Of());
        while (!Take(']'))
        {
            var low = One();
            if (Peek() == '-' && _at + 1 < _pattern.Length && _pattern[_at + 1] != ']' && low.Ranges is [var (first, only)] && first == only)
            {
                _at++;
                var high = One();
                if (high.Ranges is not [var (last, same)] || last != same || last < first)
                {
                    throw Error("has a range in a class that is not from a character to a later one");
                }

                low = CharSet.Of((first, last));
            }

            set = set.Or(low);
        }

        return not ? set.Not() : set;

        CharSet One() => Peek() switch
        {
            '\0' => throw Error("has a class that is not closed"),
            '\\' => Escaped(inClass: true),
            _ => CharSet.One(Next()),
        };
    }

    private CharSet Escaped(bool inClass)
    {
        _at++;
        if (_at >= _pattern.Length)
        {
            throw Error("ends with a backslash");
        }

        var letter = _pattern[_at++];
        switch (letter)
        {
            case 'd':
                return s_digits;
            case 'D':
                return s_digits.Not();
            case 'w':
                return s_word;
            case 'W':
                return s_word.Not();
            case 's':
                return s_space;
            case 'S':
                return s_space.Not();
            case 't':
                return CharSet.One('\t');
            case 'n':
                return CharSet.One('\n');
            case 'r':
                return CharSet.One('\r');
            case 'f':
                return CharSet.One('\f');
            case 'v':
                return CharSet.One('\v');
            case '0' when Peek() is < '0' or > '9':
                return CharSet.One(0);
            case 'b' when inClass:
                return CharSet.One('\b');
            case 'x':
                return CharSet.One(Hex(2));
            case 'u':
                return CharSet.One(Unicode());
            case 'b' or 'B' or 'p' or 'P' or 'k' or 'c' or (>= '0' and <= '9'):
                throw Error($"has \\{letter}, which is not supported");
            default:
                _at--;
                return CharSet.One(Next());
        }
    }

    private int Unicode()
    {
        if (Take('{'))
        {
            var close = _pattern.IndexOf('}', _at);
            var code = close > _at && int.TryParse(_pattern.AsSpan(_at, close - _at), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var value) && value <= CharSet.Last ? value : throw Error("has a \\u{...} that is no character");
            _at = close + 1;
            return code;
        }

        var high = Hex(4);
        if (high is >= 0xD800 and < 0xDC00 && _at + 1 < _pattern.Length && _pattern[_at] == '\\' && _pattern[_at + 1] == 'u')
        {
            _at += 2;
            return char.ConvertToUtf32((char)high, (char)Hex(4));
        }

        return high is >= 0xD800 and <= 0xDFFF ? throw Error("has half of a surrogate pair, which is no character") : high;
    }

    private int Hex(int digits)
    {
        if (_at + digits > _pattern.Length || !int.TryParse(_pattern.AsSpan(_at, digits), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var value))
        {
            throw Error($"has an escape without its {digits} hexadecimal digits");
        }

        _at += digits;
        return value;
    }

    private int Next()
    {
        if (!System.Text.Rune.TryGetRuneAt(_pattern, _at, out var rune))
        {
            throw Error("has half of a surrogate pair, which is no character");
        }

        _at += rune.Utf16SequenceLength;
        return rune.Value;
    }

    private char Peek() => _at < _pattern.Length ? _pattern[_at] : '\0';

    private bool Take(char character)
    {
        if (_at >= _pattern.Length || _pattern[_at] != character)
        {
            return false;
        }

        _at++;
        return true;
    }

    private GrammarException Error(string what) => new($"the pattern \"{_pattern}\" {what} (at character {_at + 1}).");
}
