using System.Collections.Frozen;

using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Builtins;

/// <summary>The methods of strings.</summary>
internal static class StringMethods
{
    private static readonly FrozenDictionary<string, Method> Methods = new Dictionary<string, Method>
    {
        ["capitalize"] = Plain("capitalize", TextTools.Capitalize),
        ["casefold"] = Plain("casefold", (_, text) => text.Recast(PyUnicode.CaseFold(text.Value))),
        ["center"] = Method.Of("center", 1, (state, text, a) => Justify(state, text, a, Side.Both), "width", "fillchar"),
        ["count"] = Method.Of("count", 1, Count, "sub", "start", "end"),
        ["encode"] = Unsupported("encode"),
        ["endswith"] = Method.Of("endswith", 1, (_, text, a) => HasAffix(text, a, "endswith", atEnd: true), "suffix", "start", "end"),
        ["expandtabs"] = Method.Named("expandtabs", 0, ExpandTabs, "tabsize"),
        ["find"] = Method.Of("find", 1, (_, text, a) => Find(text, a, "find", fromRight: false), "sub", "start", "end"),
        ["format"] = Method.Raw((state, text, arguments) => StrFormat.Apply(state, text, arguments.Positional, KeywordDict(arguments))),
        ["format_map"] = Method.Of("format_map", 1, (state, text, a) => StrFormat.Apply(state, text, [], a[0]), "mapping"),
        ["index"] = Method.Of("index", 1, (_, text, a) => Index(text, a, "index", fromRight: false), "sub", "start", "end"),
        ["isalnum"] = Predicate("isalnum", StringPredicates.IsAlphanumeric),
        ["isalpha"] = Predicate("isalpha", StringPredicates.IsAlpha),
        ["isascii"] = Predicate("isascii", text => text.All(char.IsAscii)),
        ["isdecimal"] = Predicate("isdecimal", StringPredicates.IsDecimal),
        ["isdigit"] = Predicate("isdigit", StringPredicates.IsDigit),
        ["isidentifier"] = Predicate("isidentifier", StringPredicates.IsIdentifier),
        ["islower"] = Predicate("islower", StringPredicates.IsLower),
        ["isnumeric"] = Predicate("isnumeric", StringPredicates.IsNumeric),
        ["isprintable"] = Predicate("isprintable", StringPredicates.IsPrintable),
        ["isspace"] = Predicate("isspace", text => text.Length > 0 && text.All(PyUnicode.IsSpace)),
        ["istitle"] = Predicate("istitle", StringPredicates.IsTitle),
        ["isupper"] = Predicate("isupper", StringPredicates.IsUpper),
        ["join"] = Method.Of("join", 1, Join, "iterable"),
        ["ljust"] = Method.Of("ljust", 1, (state, text, a) => Justify(state, text, a, Side.Right), "width", "fillchar"),
        ["lower"] = Plain("lower", (_, text) => TextTools.Lower(text)),
        ["lstrip"] = Method.Of("lstrip", 0, (_, text, a) => Strip(text, a[0], "lstrip", left: true, right: false), "chars"),
        ["maketrans"] = Unsupported("maketrans"),
        ["partition"] = Method.Of("partition", 1, (_, text, a) => Partition(text, a, fromRight: false), "sep"),
        ["removeprefix"] = Method.Of("removeprefix", 1, (_, text, a) => RemoveAffix(text, a, "removeprefix", atEnd: false), "prefix"),
        ["removesuffix"] = Method.Of("removesuffix", 1, (_, text, a) => RemoveAffix(text, a, "removesuffix", atEnd: true), "suffix"),
        ["replace"] = Method.Of("replace", 2, Replace, "old", "new", "count"),
        ["rfind"] = Method.Of("rfind", 1, (_, text, a) => Find(text, a, "rfind", fromRight: true), "sub", "start", "end"),
        ["rindex"] = Method.Of("rindex", 1, (_, text, a) => Index(text, a, "rindex", fromRight: true), "sub", "start", "end"),
        ["rjust"] = Method.Of("rjust", 1, (state, text, a) => Justify(state, text, a, Side.Left), "width", "fillchar"),
        ["rpartition"] = Method.Of("rpartition", 1, (_, text, a) => Partition(text, a, fromRight: true), "sep"),
        ["rsplit"] = Method.Named("rsplit", 0, (state, text, a) => Split(state, text, a, fromRight: true), "sep", "maxsplit"),
        ["rstrip"] = Method.Of("rstrip", 0, (_, text, a) => Strip(text, a[0], "rstrip", left: false, right: true), "chars"),
        ["split"] = Method.Named("split", 0, (state, text, a) => Split(state, text, a, fromRight: false), "sep", "maxsplit"),
        ["splitlines"] = Method.Named("splitlines", 0, SplitLines, "keepends"),
        ["startswith"] = Method.Of("startswith", 1, (_, text, a) => HasAffix(text, a, "startswith", atEnd: false), "prefix", "start", "end"),
        ["strip"] = Method.Of("strip", 0, (_, text, a) => Strip(text, a[0], "strip", left: true, right: true), "chars"),
        ["swapcase"] = Plain("swapcase", TextTools.SwapCase),
        ["title"] = Plain("title", TextTools.Title),
        ["translate"] = Unsupported("translate"),
        ["upper"] = Plain("upper", (_, text) => TextTools.Upper(text)),
        ["zfill"] = Method.Of("zfill", 1, ZeroFill, "width"),
    }.ToFrozenDictionary();

    private enum Side
    {
        Left,
        Right,
        Both,
    }

    /// <summary>A bound method; <see cref="Missing.Value"/> if there is none of that name.</summary>
    public static object Attribute(PyString text, string name)
    {
        if (!Methods.TryGetValue(name, out var method))
        {
            return Missing.Value;
        }

        return new BuiltinFunction(name, "builtin_function_or_method", (state, arguments) => method.Body(state, text, arguments));
    }

    private static Method Plain(string name, Func<RenderState, PyString, PyString> body) =>
        Method.Of(name, 0, (state, text, _) => body(state, text));

    private static Method Predicate(string name, Func<string, bool> body) =>
        Method.Of(name, 0, (_, text, _) => body(text.Value));

    private static Method Unsupported(string name) =>
        Method.Raw((_, _, _) => throw TemplateFailure.Runtime($"the string method {name} is not supported in chat templates"));

    private static PyDict KeywordDict(Arguments arguments)
    {
        var dict = new PyDict();
        foreach (var (name, value) in arguments.Keywords)
        {
            dict.Set(PyString.Of(name), value);
        }

        return dict;
    }

    private static PyString Text(object? value, string function) => value as PyString
        ?? throw TemplateFailure.Type($"{function}() argument must be str, not {PyType.Name(value)}");

    private static PyString Strip(PyString text, object? characters, string function, bool left, bool right)
    {
        if (characters is null or Missing)
        {
            return TextTools.Strip(text, null, left, right);
        }

        return characters is PyString set
            ? TextTools.Strip(text, set.Value, left, right)
            : throw TemplateFailure.Type($"{function} arg must be None or str");
    }

    private static PyList Split(RenderState state, PyString text, object?[] arguments, bool fromRight)
    {
        var most = arguments[1] is Missing ? -1 : PyConvert.ToIndex(arguments[1]);
        most = most < 0 ? -1 : most;
        if (arguments[0] is null or Missing)
        {
            return new PyList(fromRight ? TextTools.SplitWordsFromRight(state, text, most) : TextTools.SplitWords(state, text, most));
        }

        if (arguments[0] is not PyString separator)
        {
            throw TemplateFailure.Type($"must be str or None, not {PyType.Name(arguments[0])}");
        }

        if (separator.Value.Length == 0)
        {
            throw TemplateFailure.Runtime("empty separator");
        }

        return new PyList(fromRight
            ? TextTools.SplitFromRight(state, text, separator.Value, most)
            : TextTools.Split(state, text, separator.Value, most));
    }

    private static PyList SplitLines(RenderState state, PyString text, object?[] arguments) =>
        new(TextTools.SplitLines(state, text, arguments[0] is not Missing && PyConvert.IsTrue(arguments[0])));

    private static PyTuple Partition(PyString text, object?[] arguments, bool fromRight)
    {
        var separator = Text(arguments[0], "partition");
        if (separator.Value.Length == 0)
        {
            throw TemplateFailure.Runtime("empty separator");
        }

        var at = fromRight
            ? text.Value.LastIndexOf(separator.Value, StringComparison.Ordinal)
            : text.Value.IndexOf(separator.Value, StringComparison.Ordinal);
        var end = at + separator.Value.Length;
        var none = text.Slice(0, 0);
        if (at < 0)
        {
            return new PyTuple(fromRight ? [none, none, text] : [text, none, none]);
        }

        return new PyTuple([text.Slice(0, at), text.Slice(at, end), text.Slice(end, text.Value.Length)]);
    }

    private static PyString Replace(RenderState state, PyString text, object?[] arguments)
    {
        var (old, replacement) = (Text(arguments[0], "replace"), Text(arguments[1], "replace"));
        var most = arguments[2] is Missing ? -1 : PyConvert.ToIndex(arguments[2]);
        return TextTools.Replace(state, text, old, text.IsMarkup ? Html.Escape(state, replacement) : replacement, most);
    }

    private static PyString Join(RenderState state, PyString text, object?[] arguments)
    {
        if (!PyConvert.IsIterable(arguments[0]))
        {
            throw TemplateFailure.Type("can only join an iterable");
        }

        var position = 0;
        return TextTools.Join(state, text, PyConvert.Iterate(state, arguments[0]).Select(item =>
        {
            var part = item as PyString
                ?? throw TemplateFailure.Type($"sequence item {position}: expected str instance, {PyType.Name(item)} found");
            position++;
            return text.IsMarkup ? Html.Escape(state, part) : part;
        }));
    }

    private static PyString Justify(RenderState state, PyString text, object?[] arguments, Side side)
    {
        var width = PyConvert.ToIndex(arguments[0]);
        var fill = arguments[1] is Missing ? PyString.Of(" ") : Text(arguments[1], "center");
        if (fill.Length != 1)
        {
            throw TemplateFailure.Type("The fill character must be exactly one character long");
        }

        var pad = Math.Max(0, width - text.Length);
        var left = side switch
        {
            Side.Left => pad,
            Side.Right => 0,
            _ => (pad / 2) + (pad & width & 1),
        };
        return TextTools.Pad(state, text, left, pad - left, fill);
    }

    private static PyString ZeroFill(RenderState state, PyString text, object?[] arguments)
    {
        var pad = PyConvert.ToIndex(arguments[0]) - text.Length;
        var sign = text.Value.StartsWith('-') || text.Value.StartsWith('+') ? 1 : 0;
        var builder = state.NewText();
        builder.Append(text, 0, sign);
        builder.Append(TextTools.Pad(state, text.Slice(sign, text.Value.Length), pad, 0, PyString.Of("0")));
        return builder.Build(text.IsMarkup);
    }

    private static PyString ExpandTabs(RenderState state, PyString text, object?[] arguments)
    {
        var size = arguments[0] is Missing ? 8 : PyConvert.ToIndex(arguments[0]);
        var builder = state.NewText();
        long column = 0;
        foreach (var c in text.CodePoints())
        {
            if (c.Value == "\t")
            {
                var width = size > 0 ? size - (column % size) : 0;
                builder.Append(' ', (int)Math.Min(width, int.MaxValue / 2));
                column += width;
            }
            else
            {
                builder.Append(c);
                column = c.Value is "\n" or "\r" ? 0 : column + 1;
            }
        }

        return builder.Build(text.IsMarkup);
    }

    private static PyString RemoveAffix(PyString text, object?[] arguments, string function, bool atEnd)
    {
        var affix = Text(arguments[0], function).Value;
        if (atEnd)
        {
            return affix.Length > 0 && text.Value.EndsWith(affix, StringComparison.Ordinal) ? text.Slice(0, text.Value.Length - affix.Length) : text;
        }

        return text.Value.StartsWith(affix, StringComparison.Ordinal) ? text.Slice(affix.Length, text.Value.Length) : text;
    }

    /// <summary>The part selected by the optional bounds <c>start</c> and <c>end</c>; null if start is past the end.</summary>
    private static (PyString Part, long Start)? Window(PyString text, object?[] arguments)
    {
        var start = arguments[1] is Missing or null ? 0 : PyConvert.ToIndex(arguments[1]);
        if (start > text.Length)
        {
            return null;
        }

        var slice = new PySlice(start, arguments[2] is Missing ? null : arguments[2], null);
        var (first, _, count) = PyAccess.Bounds(slice, text.Length);
        return (text.Slice(text.ToUnit((int)first), text.ToUnit((int)(first + count))), first);
    }

    private static object Count(RenderState state, PyString text, object?[] arguments)
    {
        var sought = Text(arguments[0], "count").Value;
        if (Window(text, arguments) is not { } window)
        {
            return 0L;
        }

        if (sought.Length == 0)
        {
            return (long)window.Part.Length + 1;
        }

        long count = 0;
        for (var at = window.Part.Value.IndexOf(sought, StringComparison.Ordinal); at >= 0; count++)
        {
            at = window.Part.Value.IndexOf(sought, at + sought.Length, StringComparison.Ordinal);
        }

        return count;
    }

    private static object Find(PyString text, object?[] arguments, string function, bool fromRight)
    {
        var sought = Text(arguments[0], function).Value;
        if (Window(text, arguments) is not { } window)
        {
            return -1L;
        }

        var part = window.Part;
        var at = fromRight ? part.Value.AsSpan().LastIndexOf(sought) : part.Value.AsSpan().IndexOf(sought);
        at = fromRight && sought.Length == 0 ? part.Value.Length : at;
        return at < 0 ? -1L : window.Start + part.ToCodePoint(at);
    }

    private static object Index(PyString text, object?[] arguments, string function, bool fromRight)
    {
        var at = Find(text, arguments, function, fromRight);
        return at is -1L ? throw TemplateFailure.Runtime("substring not found") : at;
    }

    private static object HasAffix(PyString text, object?[] arguments, string function, bool atEnd)
    {
        var affixes = arguments[0] is PyTuple tuple ? tuple.Items : [arguments[0]];
        if (!Array.TrueForAll(affixes, affix => affix is PyString))
        {
            throw TemplateFailure.Type($"{function} first arg must be str or a tuple of str, not {PyType.Name(arguments[0])}");
        }

        return Window(text, arguments) is { } window && Array.Exists(affixes, affix => atEnd
            ? window.Part.Value.EndsWith(((PyString)affix!).Value, StringComparison.Ordinal)
            : window.Part.Value.StartsWith(((PyString)affix!).Value, StringComparison.Ordinal));
    }

    /// <summary>A method: takes the string and the arguments of the call.</summary>
    private sealed record Method(Func<RenderState, PyString, Arguments, object?> Body)
    {
        /// <summary>A method whose arguments are passed by position.</summary>
        public static Method Of(string name, int required, Func<RenderState, PyString, object?[], object?> body, params string[] parameters) =>
            Fitted(new Signature(name, required, parameters) { TakesKeywords = false }, body);

        /// <summary>A method whose arguments may be passed by name too.</summary>
        public static Method Named(string name, int required, Func<RenderState, PyString, object?[], object?> body, params string[] parameters) =>
            Fitted(new Signature(name, required, parameters), body);

        public static Method Raw(Func<RenderState, PyString, Arguments, object?> body) => new(body);

        private static Method Fitted(Signature signature, Func<RenderState, PyString, object?[], object?> body) =>
            new((state, text, arguments) => body(state, text, signature.Fit(arguments)));
    }
}
