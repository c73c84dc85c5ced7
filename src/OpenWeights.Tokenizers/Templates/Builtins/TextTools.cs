using System.Text;

using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Builtins;

/// <summary>Python's string methods, which keep the origin of the characters.</summary>
internal static class TextTools
{
    /// <summary>Without characters of a set at the ends; white space if there is no set.</summary>
    public static PyString Strip(PyString text, string? characters, bool left, bool right)
    {
        var value = text.Value;
        var set = characters is null ? null : PyString.Of(characters).CodePoints().Select(c => c.Value).ToHashSet();
        var (start, end) = (0, value.Length);
        while (left && start < end && IsStripped(value, start, PyString.WidthAt(value, start)))
        {
            start += PyString.WidthAt(value, start);
        }

        while (right && end > start)
        {
            var width = end - 2 >= start && char.IsSurrogatePair(value, end - 2) ? 2 : 1;
            if (!IsStripped(value, end - width, width))
            {
                break;
            }

            end -= width;
        }

        return text.Slice(start, end);

        bool IsStripped(string s, int at, int width) =>
            set is null ? PyUnicode.IsSpace(s[at]) : set.Contains(s.Substring(at, width));
    }

    /// <summary>The words between white space.</summary>
    public static List<object?> SplitWords(RenderState state, PyString text, long most)
    {
        var words = new List<object?>();
        var (value, at) = (text.Value, 0);
        while (true)
        {
            while (at < value.Length && PyUnicode.IsSpace(value[at]))
            {
                at++;
            }

            if (at == value.Length)
            {
                return words;
            }

            if (words.Count == most)
            {
                words.Add(text.Slice(at, value.Length));
                return words;
            }

            var start = at;
            while (at < value.Length && !PyUnicode.IsSpace(value[at]))
            {
                at++;
            }

            state.Step();
            words.Add(text.Slice(start, at));
        }
    }

    /// <summary>The words between white space, counted from the end.</summary>
    public static List<object?> SplitWordsFromRight(RenderState state, PyString text, long most)
    {
        var words = new List<object?>();
        var (value, end) = (text.Value, text.Value.Length);
        while (true)
        {
            while (end > 0 && PyUnicode.IsSpace(value[end - 1]))
            {
                end--;
            }

            if (end == 0)
            {
                break;
            }

            if (words.Count == most)
            {
                words.Add(text.Slice(0, end));
                break;
            }

            var stop = end;
            while (end > 0 && !PyUnicode.IsSpace(value[end - 1]))
            {
                end--;
            }

            state.Step();
            words.Add(text.Slice(end, stop));
        }

        words.Reverse();
        return words;
    }

    public static List<object?> Split(RenderState state, PyString text, string separator, long most)
    {
        var parts = new List<object?>();
        var start = 0;
        while (parts.Count != most)
        {
            var at = text.Value.IndexOf(separator, start, StringComparison.Ordinal);
            if (at < 0)
            {
                break;
            }

            state.Step();
            parts.Add(text.Slice(start, at));
            start = at + separator.Length;
        }

        parts.Add(text.Slice(start, text.Value.Length));
        return parts;
    }

    public static List<object?> SplitFromRight(RenderState state, PyString text, string separator, long most)
    {
        var parts = new List<object?>();
        var end = text.Value.Length;
        while (parts.Count != most)
        {
            var at = text.Value.AsSpan(0, end).LastIndexOf(separator, StringComparison.Ordinal);
            if (at < 0)
            {
                break;
            }

            state.Step();
            parts.Add(text.Slice(at + separator.Length, end));
            end = at;
        }

        parts.Add(text.Slice(0, end));
        parts.Reverse();
        return parts;
    }

    public static List<object?> SplitLines(RenderState state, PyString text, bool keepEnds)
    {
        var lines = new List<object?>();
        var (value, start) = (text.Value, 0);
        for (var at = 0; at < value.Length;)
        {
            if (value[at] is not ('\n' or '\r' or '\v' or '\f' or (>= '\x1c' and <= '\x1e') or '\x85' or '\u2028' or '\u2029'))
            {
                at++;
                continue;
            }

            var end = at + (value[at] == '\r' && at + 1 < value.Length && value[at + 1] == '\n' ? 2 : 1);
            state.Step();
            lines.Add(text.Slice(start, keepEnds ? end : at));
            (start, at) = (end, end);
        }

        if (start < value.Length)
        {
            lines.Add(text.Slice(start, value.Length));
        }

        return lines;
    }

    /// <summary>Replaces a substring, at most a number of times; -1 for all occurrences.</summary>
    public static PyString Replace(RenderState state, PyString text, PyString old, PyString replacement, long most)
    {
        var (value, builder, done) = (text.Value, state.NewText(), 0L);
        var start = 0;
        if (old.Value.Length == 0)
        {
            for (; most < 0 || done < most; done++)
            {
                builder.Append(replacement);
                if (start == value.Length)
                {
                    return builder.Build(text.IsMarkup);
                }

                var next = start + PyString.WidthAt(value, start);
                builder.Append(text, start, next);
                start = next;
            }
        }
        else
        {
            for (; most < 0 || done < most; done++)
            {
                var at = value.IndexOf(old.Value, start, StringComparison.Ordinal);
                if (at < 0)
                {
                    break;
                }

                builder.Append(text, start, at);
                builder.Append(replacement);
                start = at + old.Value.Length;
            }
        }

        if (done == 0)
        {
            return text;
        }

        builder.Append(text, start, value.Length);
        return builder.Build(text.IsMarkup);
    }

    public static PyString Join(RenderState state, PyString separator, IEnumerable<PyString> items)
    {
        var builder = state.NewText();
        var isFirst = true;
        foreach (var item in items)
        {
            if (!isFirst)
            {
                builder.Append(separator);
            }

            isFirst = false;
            builder.Append(item);
        }

        return builder.Build(separator.IsMarkup);
    }

    /// <summary>With a character repeated before and after it.</summary>
    public static PyString Pad(RenderState state, PyString text, long left, long right, PyString fill)
    {
        if (left <= 0 && right <= 0)
        {
            return text;
        }

        var builder = state.NewText();
        builder.Append((PyString)PyOperators.Multiply(state, fill, left)!);
        builder.Append(text);
        builder.Append((PyString)PyOperators.Multiply(state, fill, right)!);
        return builder.Build(text.IsMarkup);
    }

    public static PyString Upper(PyString text) => text.Recast(PyUnicode.Upper(text.Value));

    public static PyString Lower(PyString text) => text.Recast(PyUnicode.Lower(text.Value));

    public static PyString Capitalize(RenderState state, PyString text)
    {
        if (text.Value.Length == 0)
        {
            return text;
        }

        var first = PyString.WidthAt(text.Value, 0);
        var builder = state.NewText();
        builder.Append(text.Slice(0, first).Recast(PyUnicode.TitleFirst(text.Value)));
        AppendLower(builder, text, first, text.Value.Length);
        return builder.Build(text.IsMarkup);
    }

    /// <summary><c>str.title</c>: a capital after everything that is no letter.</summary>
    public static PyString Title(RenderState state, PyString text)
    {
        var builder = state.NewText();
        var isInside = false;
        for (var at = 0; at < text.Value.Length;)
        {
            var end = at + PyString.WidthAt(text.Value, at);
            var isCased = Rune.TryGetRuneAt(text.Value, at, out var rune) && PyUnicode.IsCased(rune);
            if (isCased && !isInside)
            {
                builder.Append(text.Slice(at, end).Recast(PyUnicode.TitleFirst(text.Value[at..end])));
            }
            else
            {
                AppendLower(builder, text, at, end);
            }

            isInside = isCased;
            at = end;
        }

        return builder.Build(text.IsMarkup);
    }

    public static PyString SwapCase(RenderState state, PyString text)
    {
        var builder = state.NewText();
        for (var at = 0; at < text.Value.Length;)
        {
            var end = at + PyString.WidthAt(text.Value, at);
            if (Rune.TryGetRuneAt(text.Value, at, out var rune) && Rune.IsUpper(rune))
            {
                AppendLower(builder, text, at, end);
            }
            else
            {
                builder.Append(Upper(text.Slice(at, end)));
            }

            at = end;
        }

        return builder.Build(text.IsMarkup);
    }

    /// <summary>A part in lower case, decided with all of the text in view (a sigma's form depends on its neighbours).</summary>
    private static void AppendLower(TextBuilder builder, PyString text, int start, int end) =>
        builder.Append(text.Slice(start, end).Recast(PyUnicode.Lower(text.Value, start, end)));
}
