using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Configuration;

/// <summary>Finds the most common mistakes that make a file invalid YAML. The parser reports them some lines later, or without a position.</summary>
internal static partial class YamlSlips
{
    private const string Escapes = "0abtnvfre \"/\\N_LPxuU\t";

    /// <summary>The first mistake in a text that is not valid YAML: its position, and how to fix it; null if unknown.</summary>
    /// <param name="text">The text.</param>
    internal static ((long Line, long Column) Place, string Message)? Find(string text)
    {
        var open = new Stack<(char Bracket, int Line, int Column)>();
        var lines = text.Split('\n');
        for (var i = 0; i < lines.Length; i++)
        {
            var line = lines[i];
            var indent = line.AsSpan(0, line.Length - line.AsSpan().TrimStart().Length);
            if (open.Count == 0 && indent.Length < line.Length && line[indent.Length] != '#' && indent.IndexOf('\t') is >= 0 and var tab)
            {
                return ((i + 1, tab + 1), "this is not valid YAML: a tab indents this line; write spaces.");
            }

            if (open.Count == 0 && Assignment().Match(line) is { Success: true } assignment)
            {
                return ((i + 1, indent.Length + 1), $"this is not valid YAML: a setting and its value are separated by a colon and a space; write `{assignment.Groups["key"].Value}: {assignment.Groups["value"].Value.Trim()}`.");
            }

            if (Escape(line, i + 1, open) is { } slip)
            {
                return slip;
            }
        }

        return open.Count > 0 && open.Peek() is var left ? ((left.Line, left.Column), $"this is not valid YAML: '{left.Bracket}' is not closed.") : null;
    }

    [GeneratedRegex(@"\A\s*(?<key>[a-z_]+(\.[a-z_]+)*)\s*=\s*(?<value>\S.*)\z")]
    private static partial Regex Assignment();

    // A backslash that begins no escape. The brackets that the line opens and closes are counted on the way.
    private static ((long Line, long Column) Place, string Message)? Escape(string line, int number, Stack<(char Bracket, int Line, int Column)> open)
    {
        for (var at = 0; at < line.Length; at++)
        {
            // Within a plain text brackets and quotes mean nothing.
            var begins = at == 0 || line[at - 1] is ' ' or '\t' or '[' or '{' or ',' or ':';
            switch (line[at])
            {
                case '#' when at == 0 || line[at - 1] is ' ' or '\t':
                    return null;
                case '{' or '[' when begins:
                    open.Push((line[at], number, at + 1));
                    break;
                case '}' or ']' when open.Count > 0:
                    _ = open.Pop();
                    break;
                case '"' or '\'' when begins:
                    var (end, wrong) = Quoted(line, at);
                    if (wrong is { } escape)
                    {
                        return ((number, escape + 1), $"this is not valid YAML: in double quotes a backslash begins an escape, and {line.AsSpan(escape, Math.Min(2, line.Length - escape))} is none here; write / in paths, or single quotes.");
                    }

                    at = end;
                    break;
                default:
                    break;
            }
        }

        return null;
    }

    // Where a quoted text ends in its line, and its first backslash that begins no escape.
    private static (int End, int? Wrong) Quoted(string line, int start)
    {
        for (var at = start + 1; at < line.Length; at++)
        {
            if (line[start] == '"' && line[at] == '\\')
            {
                if (!IsEscape(line.AsSpan(at + 1)))
                {
                    return (line.Length, at);
                }

                at++;
            }
            else if (line[at] == line[start])
            {
                return (at, null);
            }
        }

        return (line.Length, null);
    }

    private static bool IsEscape(ReadOnlySpan<char> behind)
    {
        if (behind.TrimEnd('\r').IsEmpty)
        {
            return true;
        }

        var digits = behind[0] switch { 'x' => 2, 'u' => 4, 'U' => 8, _ => 0 };
        return Escapes.Contains(behind[0], StringComparison.Ordinal) && behind.Length > digits && behind.Slice(1, digits).ToString().All(char.IsAsciiHexDigit);
    }
}
