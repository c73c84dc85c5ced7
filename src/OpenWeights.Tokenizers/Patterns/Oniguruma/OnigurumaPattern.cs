using System.Buffers;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.RegularExpressions;

namespace OpenWeights.Tokenizers;

/// <summary>
/// An Oniguruma expression, run by .NET's engine. All that an expression without back references asks of a character is which of its
/// sets it is in. So the code points are divided into kinds that no set tells apart, each kind gets a letter, and both the expression
/// and the text are rewritten in these letters: one letter for each code point, whatever its plane, and no question of what two
/// engines think <c>\s</c> or <c>(?i:s)</c> means.
/// </summary>
internal sealed class OnigurumaPattern : TextPattern
{
    private readonly Lazy<Regex> _regex;
    private readonly CodePointKinds _kinds;

    private OnigurumaPattern(PatternNode root)
    {
        var sets = new List<CodePointSet>();
        Collect(root, sets);
        _kinds = new CodePointKinds(sets);
        var expression = new StringBuilder();
        Write(root, expression);
        Expression = expression.ToString();
        _regex = new Lazy<Regex>(() => new Regex(
            Expression,
            RegexOptions.CultureInvariant | (RuntimeFeature.IsDynamicCodeCompiled ? RegexOptions.Compiled : RegexOptions.None)));
    }

    /// <summary>The expression in letters of kinds.</summary>
    public string Expression { get; }

    /// <summary>Translates an expression.</summary>
    /// <param name="expression">The expression.</param>
    /// <param name="error">Makes the error for a sentence.</param>
    public static OnigurumaPattern Parse(string expression, Func<string, InvalidDataException> error)
    {
        try
        {
            return new OnigurumaPattern(OnigurumaParser.Parse(expression));
        }
        catch (FormatException e)
        {
            throw error($"the regular expression {e.Message}: {expression}");
        }
    }

    public override void FindMatches(ReadOnlySpan<char> text, List<PatternMatch> matches)
    {
        if (text.IsEmpty)
        {
            return;
        }

        var letters = ArrayPool<char>.Shared.Rent(text.Length);
        try
        {
            var count = _kinds.Rewrite(text, letters);
            Find(letters.AsSpan(0, count), text, matches);
        }
        finally
        {
            ArrayPool<char>.Shared.Return(letters);
        }
    }

    private void Find(ReadOnlySpan<char> letters, ReadOnlySpan<char> text, List<PatternMatch> matches)
    {
        var positions = new PositionWalker(text, isSame: letters.Length == text.Length);
        var last = 0;
        var lastMatchEnd = -1;
        foreach (var match in _regex.Value.EnumerateMatches(letters))
        {
            // The reference does not take an empty match right after a match.
            if (match.Length == 0 && match.Index == lastMatchEnd)
            {
                continue;
            }

            var start = positions.UnitOf(match.Index);
            var end = positions.UnitOf(match.Index + match.Length);
            if (last < start)
            {
                matches.Add(new PatternMatch(last, start, false));
            }

            matches.Add(new PatternMatch(start, end, true));
            last = end;
            lastMatchEnd = match.Index + match.Length;
        }

        if (last < text.Length)
        {
            matches.Add(new PatternMatch(last, text.Length, false));
        }
    }

    /// <summary>Translates counts of code points into counts of UTF-16 units, going forward only.</summary>
    private ref struct PositionWalker(ReadOnlySpan<char> text, bool isSame)
    {
        private readonly ReadOnlySpan<char> _text = text;
        private int _codePoints;
        private int _units;

        public int UnitOf(int codePoints)
        {
            if (isSame)
            {
                return codePoints;
            }

            while (_codePoints < codePoints)
            {
                _units += char.IsHighSurrogate(_text[_units]) && _units + 1 < _text.Length ? 2 : 1;
                _codePoints++;
            }

            return _units;
        }
    }

    private static void Collect(PatternNode node, List<CodePointSet> sets)
    {
        switch (node)
        {
            case PatternNode.Set set:
                sets.Add(set.Characters);
                break;
            case PatternNode.Sequence sequence:
                CollectAll(sequence.Parts, sets);
                break;
            case PatternNode.Alternation alternation:
                CollectAll(alternation.Choices, sets);
                break;
            case PatternNode.Repeat repeat:
                Collect(repeat.Part, sets);
                break;
            case PatternNode.Group group:
                Collect(group.Part, sets);
                break;
        }
    }

    private static void CollectAll(IReadOnlyList<PatternNode> nodes, List<CodePointSet> sets)
    {
        foreach (var node in nodes)
        {
            Collect(node, sets);
        }
    }

    private void Write(PatternNode node, StringBuilder output)
    {
        switch (node)
        {
            case PatternNode.Set set:
                _ = output.Append(_kinds.ClassOf(set.Characters));
                break;
            case PatternNode.Sequence sequence:
                foreach (var part in sequence.Parts)
                {
                    Write(part, output);
                }

                break;
            case PatternNode.Alternation alternation:
                WriteAlternation(alternation, output);
                break;
            case PatternNode.Repeat repeat:
                WriteRepeat(repeat, output);
                break;
            case PatternNode.Group group:
                _ = output.Append('(').Append(group.Kind);
                Write(group.Part, output);
                _ = output.Append(')');
                break;
            case PatternNode.Place place:
                _ = output.Append(place.Kind);
                break;
        }
    }

    private void WriteAlternation(PatternNode.Alternation alternation, StringBuilder output)
    {
        _ = output.Append("(?:");
        for (var i = 0; i < alternation.Choices.Count; i++)
        {
            _ = output.Append(i == 0 ? "" : "|");
            Write(alternation.Choices[i], output);
        }

        _ = output.Append(')');
    }

    private void WriteRepeat(PatternNode.Repeat repeat, StringBuilder output)
    {
        var isSingle = repeat.Part is PatternNode.Set;
        _ = output.Append(isSingle ? "" : "(?:");
        Write(repeat.Part, output);
        _ = output.Append(isSingle ? "" : ")");
        _ = (repeat.Least, repeat.Most) switch
        {
            (0, null) => output.Append('*'),
            (1, null) => output.Append('+'),
            (0, 1) => output.Append('?'),
            (_, null) => output.Append(System.Globalization.CultureInfo.InvariantCulture, $"{{{repeat.Least},}}"),
            _ => output.Append(System.Globalization.CultureInfo.InvariantCulture, $"{{{repeat.Least},{repeat.Most}}}"),
        };
        _ = output.Append(repeat.IsLazy ? "?" : "");
    }
}
