using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Builtins;

/// <summary>The filter <c>wordwrap</c>: each line of a text on lines of a width, as Python's textwrap breaks them.</summary>
internal static class WordWrapFilter
{
    public static object Wrap(RenderState state, object?[] arguments)
    {
        var text = arguments[0] as PyString ?? throw TemplateFailure.Type($"wordwrap needs a str, not {PyType.Name(arguments[0])}");
        var width = (int)Math.Clamp(PyConvert.ToIndex(Filters.Or(arguments[1], 79L)), int.MinValue, int.MaxValue);
        if (width <= 0)
        {
            throw TemplateFailure.Runtime($"invalid width {width} (must be > 0)");
        }

        var breaksWords = arguments[2] is Missing || PyConvert.IsTrue(arguments[2]);
        var newline = Filters.Or(arguments[3], null) is PyString wrap ? wrap.Value : "\n";
        var breaksHyphens = arguments[4] is Missing || PyConvert.IsTrue(arguments[4]);
        var lines = TextTools.SplitLines(state, text, keepEnds: false)
            .Select(line => string.Join(newline, WrapLine(((PyString)line!).Value, width, breaksWords, breaksHyphens)));
        return text.Derive(string.Join(newline, lines));
    }

    private static List<string> WrapLine(string text, int width, bool breaksWords, bool breaksHyphens)
    {
        var chunks = new LinkedList<ReadOnlyMemory<char>>(Chunks(text, breaksHyphens));
        var lines = new List<string>();
        while (chunks.First is not null)
        {
            var line = new List<ReadOnlyMemory<char>>();
            var length = 0;
            if (lines.Count > 0 && chunks.First.Value.Span.IsWhiteSpace())
            {
                chunks.RemoveFirst();
            }

            while (chunks.First is { } next && length + next.Value.Length <= width)
            {
                line.Add(next.Value);
                length += next.Value.Length;
                chunks.RemoveFirst();
            }

            if (chunks.First is { } longWord && longWord.Value.Length > width)
            {
                TakeLongWord(chunks, line, width - length, breaksWords, breaksHyphens);
            }

            if (line.Count > 0 && line[^1].Span.IsWhiteSpace())
            {
                line.RemoveAt(line.Count - 1);
            }

            if (line.Count > 0)
            {
                lines.Add(string.Concat(line));
            }
        }

        return lines;
    }

    // The rest of a word is a slice of it: a word of a million characters is not copied for each of its lines.
    private static void TakeLongWord(LinkedList<ReadOnlyMemory<char>> chunks, List<ReadOnlyMemory<char>> line, int left, bool breaksWords, bool breaksHyphens)
    {
        var word = chunks.First!.Value;
        if (!breaksWords && line.Count > 0)
        {
            return;
        }

        chunks.RemoveFirst();
        var end = breaksWords ? Math.Max(left, 1) : word.Length;
        if (breaksWords && breaksHyphens && word.Length > left && left > 1)
        {
            var hyphen = word.Span[..left].LastIndexOf('-');
            end = hyphen > 0 && word.Span[..hyphen].ContainsAnyExcept('-') ? hyphen + 1 : end;
        }

        line.Add(word[..end]);
        if (end < word.Length)
        {
            _ = chunks.AddFirst(word[end..]);
        }
    }

    /// <summary>Words, the white space between them, and the parts of words that have hyphens between letters.</summary>
    private static IEnumerable<ReadOnlyMemory<char>> Chunks(string text, bool breaksHyphens)
    {
        var start = 0;
        for (var at = 0; at < text.Length; at++)
        {
            if (at > start && char.IsWhiteSpace(text[at]) != char.IsWhiteSpace(text[at - 1]))
            {
                yield return Take(at);
            }

            var isBreak = breaksHyphens && text[at] == '-' && at >= 2 && at + 2 < text.Length
                && char.IsLetter(text[at - 1]) && char.IsLetterOrDigit(text[at - 2])
                && char.IsLetter(text[at + 1]) && (char.IsLetter(text[at + 2]) || text[at + 2] == '-');
            if (isBreak)
            {
                yield return Take(at + 1);
            }
        }

        if (text.Length > start)
        {
            yield return Take(text.Length);
        }

        ReadOnlyMemory<char> Take(int end)
        {
            var taken = text.AsMemory(start, end - start);
            start = end;
            return taken;
        }
    }
}
