using System.Text;

using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Builtins;

/// <summary>The filters of strings.</summary>
internal static class TextFilters
{
    public static PyString Trim(RenderState state, object?[] arguments)
    {
        var characters = Filters.Or(arguments[1], null);
        if (characters is not (null or PyString))
        {
            throw TemplateFailure.Type("strip arg must be None or str");
        }

        return TextTools.Strip(PyConvert.ToSoftStr(state, arguments[0]), (characters as PyString)?.Value, left: true, right: true);
    }

    public static object Center(RenderState state, PyString text, object? width)
    {
        var wanted = PyConvert.ToIndex(width);
        var pad = Math.Max(0, wanted - text.Length);
        var left = (pad / 2) + (pad & wanted & 1);
        return TextTools.Pad(state, text, left, pad - left, PyString.Of(" "));
    }

    public static object? Format(RenderState state, Arguments arguments)
    {
        if (arguments.Positional.Length > 1 && arguments.Keywords.Length > 0)
        {
            throw TemplateFailure.Runtime("can't handle positional and keyword arguments at the same time");
        }

        object values = new PyTuple(arguments.Positional[1..]);
        if (arguments.Keywords.Length > 0)
        {
            var named = new PyDict();
            foreach (var (name, value) in arguments.Keywords)
            {
                named.Set(PyString.Of(name), value);
            }

            values = named;
        }

        return PercentFormat.Apply(state, PyConvert.ToSoftStr(state, arguments.Positional[0]), values);
    }

    public static PyString Join(RenderState state, object?[] arguments)
    {
        var items = PyConvert.Iterate(state, arguments[0]);
        if (Filters.Or(arguments[2], null) is { } attribute)
        {
            var getter = AttributeGetter.Of(attribute);
            items = items.Select(item => getter.Get(state, item));
        }

        var separator = Filters.Or(arguments[1], PyString.Empty);
        if (!state.Autoescape)
        {
            return TextTools.Join(state, PyConvert.ToStr(state, separator), items.Select(item => PyConvert.ToStr(state, item)));
        }

        var values = items.Select(item => PyConvert.ToSoftStr(state, item)).ToArray();
        var between = PyConvert.ToSoftStr(state, separator);
        return between.IsMarkup || Array.Exists(values, value => value.IsMarkup)
            ? TextTools.Join(state, Html.Escape(state, between), values.Select(value => Html.Escape(state, value)))
            : TextTools.Join(state, between, values);
    }

    public static PyString Replace(RenderState state, object?[] arguments)
    {
        var most = Filters.Or(arguments[3], null) is { } count ? PyConvert.ToIndex(count) : -1;
        if (!state.Autoescape)
        {
            var (text, old, replacement) =
                (PyConvert.ToStr(state, arguments[0]), PyConvert.ToStr(state, arguments[1]), PyConvert.ToStr(state, arguments[2]));
            return TextTools.Replace(state, text, old, replacement, most);
        }

        var (subject, sought, put) =
            (PyConvert.ToSoftStr(state, arguments[0]), PyConvert.ToSoftStr(state, arguments[1]), PyConvert.ToSoftStr(state, arguments[2]));
        subject = sought.IsMarkup || put.IsMarkup ? Html.Escape(state, subject) : subject;
        return TextTools.Replace(state, subject, sought, subject.IsMarkup ? Html.Escape(state, put) : put, most);
    }

    public static PyString Indent(RenderState state, object?[] arguments)
    {
        if (arguments[0] is not PyString text)
        {
            throw TemplateFailure.Type($"unsupported operand type(s) for +=: {PyRepr.Quote(PyType.Name(arguments[0]))} and 'str'");
        }

        var width = Filters.Or(arguments[1], 4L);
        var indentation = width as PyString ?? (PyString)PyOperators.Multiply(state, PyString.Of(" "), width)!;
        var (indentsFirst, indentsBlank) = (Filters.IsOn(arguments[2]), Filters.IsOn(arguments[3]));
        var newline = PyString.Of("\n");
        var lines = TextTools.SplitLines(state, PyOperators.Concat(state, text.AsPlain(), newline), keepEnds: false);
        var builder = state.NewText();
        for (var i = 0; i < lines.Count; i++)
        {
            var line = (PyString)lines[i]!;
            if (i > 0)
            {
                builder.Append(newline);
            }

            if (i == 0 ? indentsFirst : indentsBlank || line.Value.Length > 0)
            {
                builder.Append(indentation);
            }

            builder.Append(line);
        }

        return builder.Build(text.IsMarkup);
    }

    /// <summary>A capital at the beginning of every word; words begin after white space, hyphens and opening brackets.</summary>
    public static PyString Title(RenderState state, PyString text)
    {
        var builder = state.NewText();
        var (start, value) = (0, text.Value);
        while (start < value.Length)
        {
            var isBreak = IsBreak(value[start]);
            var end = start + 1;
            while (end < value.Length && IsBreak(value[end]) == isBreak)
            {
                end++;
            }

            var first = start + PyString.WidthAt(value, start);
            builder.Append(TextTools.Upper(text.Slice(start, first)));
            builder.Append(TextTools.Lower(text.Slice(first, end)));
            start = end;
        }

        return builder.Build();

        static bool IsBreak(char c) => c is '-' or '(' or '{' or '[' or '<' || PyUnicode.IsSpace(c);
    }

    public static object? Truncate(RenderState state, object?[] arguments)
    {
        var length = PyConvert.ToIndex(Filters.Or(arguments[1], 255L));
        var end = Filters.Or(arguments[3], PyString.Of("...")) as PyString ?? throw TemplateFailure.Type("the end of a truncated text must be str");
        var leeway = PyConvert.ToIndex(Filters.Or(arguments[4], null) ?? 5L);
        if (length < end.Length)
        {
            throw TemplateFailure.Runtime($"expected length >= {end.Length}, got {length}");
        }

        if (leeway < 0)
        {
            throw TemplateFailure.Runtime($"expected leeway >= 0, got {leeway}");
        }

        if (PyConvert.Length(arguments[0]) <= length + leeway)
        {
            return arguments[0];
        }

        if (arguments[0] is not PyString text)
        {
            throw TemplateFailure.Type($"a {PyType.Name(arguments[0])} cannot be truncated");
        }

        var kept = text.Slice(0, text.ToUnit((int)(length - end.Length)));
        if (!Filters.IsOn(arguments[2]))
        {
            kept = (PyString)TextTools.SplitFromRight(state, kept, " ", 1)[0]!;
        }

        return PyOperators.Concat(state, kept, end);
    }

    /// <summary>Runs of letters, digits and underscores.</summary>
    public static object WordCount(PyString text)
    {
        var (count, isInside) = (0L, false);
        foreach (var rune in text.Value.EnumerateRunes())
        {
            var isWord = Rune.IsLetterOrDigit(rune) || rune.Value == '_' || Rune.GetNumericValue(rune) >= 0;
            count += isWord && !isInside ? 1 : 0;
            isInside = isWord;
        }

        return count;
    }

    public static PyString XmlAttributes(RenderState state, object? value, bool startsWithSpace)
    {
        if (value is not PyDict dict)
        {
            throw TemplateFailure.Type($"{PyRepr.Quote(PyType.Name(value))} object has no attribute 'items'");
        }

        var builder = state.NewText();
        foreach (var (key, item) in dict.Entries)
        {
            if (item is null or Undefined)
            {
                continue;
            }

            var name = PyConvert.ToStr(state, key);
            if (name.Value.Any(c => c is '/' or '>' or '=' || (char.IsAscii(c) && char.IsWhiteSpace(c))))
            {
                throw TemplateFailure.Runtime($"Invalid character in attribute name: {PyRepr.Of(key)}");
            }

            builder.Append(builder.Length > 0 || startsWithSpace ? " " : "");
            builder.Append(Html.Escape(state, name));
            builder.Append("=\"");
            builder.Append(Html.Escape(state, item));
            builder.Append('"');
        }

        return builder.Build(state.Autoescape);
    }
}
