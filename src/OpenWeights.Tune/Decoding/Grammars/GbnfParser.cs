using System.Globalization;
using System.Text;

namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>
/// Reads GBNF: rules of literals, classes of characters, names of rules, groups, alternatives, repetitions and comments, and the texts of special tokens.
/// </summary>
internal sealed class GbnfParser(string text)
{
    private const int MostRepetitions = 2000;

    private readonly Dictionary<string, GrammarRule> _rules = new(StringComparer.Ordinal);
    private readonly Dictionary<string, int> _firstUse = new(StringComparer.Ordinal);
    private readonly HashSet<string> _defined = new(StringComparer.Ordinal);
    private int _at;

    /// <summary>Reads all rules.</summary>
    /// <returns>The rule "root".</returns>
    internal GrammarNode Read()
    {
        Skip(lines: true);
        while (_at < text.Length)
        {
            var name = Name();
            Skip(lines: false);
            Require("::=", $"after the name of the rule \"{name}\"");
            Skip(lines: true);
            var body = Alternatives(nested: false);
            var rule = Rule(name);
            if (!_defined.Add(name))
            {
                throw Error($"the rule \"{name}\" is there twice");
            }

            rule.Body = body;
            if (_at < text.Length && text[_at] is not ('\n' or '\r'))
            {
                throw Error($"'{text[_at]}' cannot stand here");
            }

            Skip(lines: true);
        }

        foreach (var (name, place) in _firstUse.Where(u => !_defined.Contains(u.Key)))
        {
            _at = place;
            throw Error($"the rule \"{name}\" is not defined");
        }

        return _defined.Contains("root") ? new GrammarNode.Call(_rules["root"]) : throw new GrammarException("the grammar has no rule \"root\"; name the rule of the whole text so.");
    }

    private GrammarNode Alternatives(bool nested)
    {
        var choices = new List<GrammarNode> { Sequence(nested) };
        while (Alternative(nested))
        {
            Skip(lines: true);
            choices.Add(Sequence(nested));
        }

        return GrammarNode.AnyOf(choices);
    }

    // A bar, which may begin the next line.
    private bool Alternative(bool nested)
    {
        var before = _at;
        Skip(lines: true);
        if (Take('|'))
        {
            return true;
        }

        _at = nested ? _at : before;
        return false;
    }

    private GrammarNode Sequence(bool nested)
    {
        var parts = new List<GrammarNode>();
        while (Part() is { } part)
        {
            parts.Add(Repeated(part));
            Skip(lines: nested);
        }

        return GrammarNode.Row(parts);
    }

    private GrammarNode? Part()
    {
        switch (Peek())
        {
            case '"':
                return Literal();
            case '[':
                return Class();
            case '(':
                _at++;
                Skip(lines: true);
                var inside = Alternatives(nested: true);
                Skip(lines: true);
                return Take(')') ? inside : throw Error("a group is not closed");
            case '.':
                _at++;
                return new GrammarNode.Chars(CharSet.All);
            case '<':
                var end = text.IndexOf('>', _at);
                var mark = end < 0 ? throw Error("a token's text is not closed by >") : text[_at..(end + 1)];
                if (mark.StartsWith("<[", StringComparison.Ordinal))
                {
                    throw Error("a token's number is not supported; write its text, such as <think>");
                }

                _at = end + 1;
                return GrammarNode.Mark(mark);
            case '!':
                throw Error("tokens that are excluded (!) are not supported");
            case var c when IsName(c):
                var place = _at;
                var name = Name();
                _ = _firstUse.TryAdd(name, place);
                return new GrammarNode.Call(Rule(name));
            default:
                return null;
        }
    }

    private GrammarNode Repeated(GrammarNode part)
    {
        while (true)
        {
            switch (Peek())
            {
                case '*':
                    part = new GrammarNode.Repeat(part, 0, null);
                    break;
                case '+':
                    part = new GrammarNode.Repeat(part, 1, null);
                    break;
                case '?':
                    part = GrammarNode.Maybe(part);
                    break;
                case '{':
                    part = Counted(part);
                    break;
                default:
                    return part;
            }

            _at++;
        }
    }

    // Leaves the place at the closing brace.
    private GrammarNode Counted(GrammarNode part)
    {
        var close = text.IndexOf('}', _at);
        var counts = close < 0 ? [] : text[(_at + 1)..close].Split(',', StringSplitOptions.TrimEntries);
        if (counts.Length is not (1 or 2) || !Number(counts[0], out var least))
        {
            throw Error("a repetition is {m}, {m,} or {m,n}");
        }

        int? most = counts.Length == 1 ? least : counts[1].Length == 0 ? null : Number(counts[1], out var given) ? given : throw Error("a repetition is {m}, {m,} or {m,n}");
        if (least > MostRepetitions || most > MostRepetitions || most < least)
        {
            throw Error(most < least ? "a repetition has more at least than at most" : $"a repetition is of more than {MostRepetitions}");
        }

        _at = close;
        return new GrammarNode.Repeat(part, least, most);
    }

    private static bool Number(string digits, out int value) => int.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out value);

    private GrammarNode Literal()
    {
        _at++;
        var literal = new StringBuilder();
        while (!Take('"'))
        {
            _ = literal.Append(new Rune(Character("a literal is not closed")));
        }

        return GrammarNode.Of(literal.ToString());
    }

    private GrammarNode.Chars Class()
    {
        _at++;
        var (not, ranges) = (Take('^'), new List<(int, int)>());
        while (!Take(']'))
        {
            var low = Character("a class is not closed");
            var high = low;
            if (Peek() == '-' && _at + 1 < text.Length && text[_at + 1] != ']')
            {
                _at++;
                high = Character("a class is not closed");
            }

            ranges.Add(high >= low ? (low, high) : throw Error("a range in a class ends before it begins"));
        }

        var set = CharSet.Of(ranges);
        return new GrammarNode.Chars(not ? set.Not() : set);
    }

    private int Character(string unclosed)
    {
        if (_at >= text.Length || !Rune.TryGetRuneAt(text, _at, out var rune))
        {
            throw Error(unclosed);
        }

        _at += rune.Utf16SequenceLength;
        return rune.Value == '\\' ? Escaped() : rune.Value;
    }

    private int Escaped()
    {
        var letter = Peek();
        _at++;
        return letter switch
        {
            'x' => Hex(2),
            'u' => Hex(4),
            'U' => Hex(8),
            't' => '\t',
            'r' => '\r',
            'n' => '\n',
            '\\' or '"' or '[' or ']' or '-' => letter,
            _ => throw Error($"the escape \\{letter} is unknown; there are \\x, \\u, \\U, \\t, \\r, \\n, \\\\, \\\", \\[ and \\]"),
        };
    }

    private int Hex(int digits)
    {
        if (_at + digits > text.Length || !int.TryParse(text.AsSpan(_at, digits), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var value) || !Rune.IsValid(value))
        {
            throw Error($"an escape needs {digits} hexadecimal digits of a character");
        }

        _at += digits;
        return value;
    }

    private GrammarRule Rule(string name)
    {
        if (!_rules.TryGetValue(name, out var rule))
        {
            _rules[name] = rule = new GrammarRule(name);
        }

        return rule;
    }

    private string Name()
    {
        var start = _at;
        while (IsName(Peek()))
        {
            _at++;
        }

        return _at > start ? text[start.._at] : throw Error("a rule begins with its name and ::=");
    }

    private static bool IsName(char c) => char.IsAsciiLetterOrDigit(c) || c is '-' or '_';

    private void Require(string mark, string where)
    {
        if (string.CompareOrdinal(text, _at, mark, 0, mark.Length) != 0)
        {
            throw Error($"{mark} is missing {where}");
        }

        _at += mark.Length;
    }

    private void Skip(bool lines)
    {
        while (_at < text.Length)
        {
            if (text[_at] == '#')
            {
                while (_at < text.Length && text[_at] is not ('\n' or '\r'))
                {
                    _at++;
                }
            }
            else if (text[_at] is ' ' or '\t' || (lines && text[_at] is '\n' or '\r'))
            {
                _at++;
            }
            else
            {
                break;
            }
        }
    }

    private char Peek() => _at < text.Length ? text[_at] : '\0';

    private bool Take(char character)
    {
        if (Peek() != character || _at >= text.Length)
        {
            return false;
        }

        _at++;
        return true;
    }

    private GrammarException Error(string what)
    {
        var before = text.AsSpan(0, Math.Min(_at, text.Length));
        return new GrammarException($"the grammar, line {before.Count('\n') + 1}, column {before.Length - before.LastIndexOf('\n')}: {what}.");
    }
}
