using System.Globalization;

using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>Python's <c>str.format</c>, looking up attributes by the sandbox's rules.</summary>
internal sealed class StrFormat
{
    private const int MaxNesting = 2;

    private readonly RenderState state;
    private readonly object?[] positional;
    private readonly object? named;
    private readonly bool isMarkup;
    private int automatic;

    private StrFormat(RenderState state, object?[] positional, object? named, bool isMarkup)
    {
        this.state = state;
        this.positional = positional;
        this.named = named;
        this.isMarkup = isMarkup;
    }

    /// <exception cref="TemplateFailure">The format is not one, or names a value that was not given.</exception>
    public static PyString Apply(RenderState state, PyString format, object?[] positional, object? named) =>
        new StrFormat(state, positional, named, format.IsMarkup).Run(format, MaxNesting).Build(format.IsMarkup);

    private TextBuilder Run(PyString format, int nesting)
    {
        if (nesting < 0)
        {
            throw TemplateFailure.Runtime("Max string recursion exceeded");
        }

        var (text, builder) = (format.Value, state.NewText());
        for (var at = 0; at < text.Length;)
        {
            var brace = text.AsSpan(at).IndexOfAny('{', '}');
            if (brace < 0)
            {
                builder.Append(format, at, text.Length);
                break;
            }

            builder.Append(format, at, at + brace);
            at += brace;
            if (at + 1 < text.Length && text[at + 1] == text[at])
            {
                builder.Append(format, at, at + 1);
                at += 2;
                continue;
            }

            if (text[at] == '}')
            {
                throw TemplateFailure.Runtime("Single '}' encountered in format string");
            }

            var end = FieldEnd(text, at);
            builder.Append(Field(text[(at + 1)..end], nesting));
            at = end + 1;
        }

        return builder;
    }

    private static int FieldEnd(string text, int start)
    {
        var depth = 0;
        for (var at = start; at < text.Length; at++)
        {
            depth += text[at] switch { '{' => 1, '}' => -1, _ => 0 };
            if (depth == 0)
            {
                return at;
            }
        }

        throw TemplateFailure.Runtime(start + 1 == text.Length ? "Single '{' encountered in format string" : "expected '}' before end of string");
    }

    private PyString Field(string field, int nesting)
    {
        var nameEnd = field.AsSpan().IndexOfAny('!', ':');
        var name = nameEnd < 0 ? field : field[..nameEnd];
        var (conversion, specification) = ('\0', "");
        if (nameEnd >= 0 && field[nameEnd] == '!')
        {
            if (nameEnd + 1 == field.Length || (nameEnd + 2 < field.Length && field[nameEnd + 2] != ':'))
            {
                throw TemplateFailure.Runtime("expected ':' after conversion specifier");
            }

            conversion = field[nameEnd + 1];
            nameEnd += 2;
        }

        if (nameEnd >= 0 && nameEnd < field.Length)
        {
            specification = Run(PyString.Of(field[(nameEnd + 1)..]), nesting - 1).Build().Value;
        }

        var value = Convert(Lookup(name), conversion);
        if (isMarkup && value is PyString { IsMarkup: true } safe)
        {
            return safe;
        }

        var text = FormatSpec.Format(state, value, specification);
        return isMarkup ? Html.Escape(state, text.AsPlain()) : text;
    }

    private object? Convert(object? value, char conversion)
    {
        switch (conversion)
        {
            case '\0':
                return value is Undefined ? PyString.Empty : value;
            case 's':
                return PyConvert.ToStr(state, value);
            case 'r' or 'a':
                var text = state.NewText();
                PyRepr.Write(text, value);
                return text.Build();
            default:
                throw TemplateFailure.Runtime($"Unknown conversion specifier {conversion}");
        }
    }

    /// <summary>The value of <c>name.attribute[key]</c>.</summary>
    private object? Lookup(string path)
    {
        var end = path.AsSpan().IndexOfAny('.', '[');
        var value = First(end < 0 ? path : path[..end]);
        while (end >= 0 && end < path.Length)
        {
            if (path[end] == '.')
            {
                var stop = path.AsSpan(end + 1).IndexOfAny('.', '[');
                stop = stop < 0 ? path.Length : end + 1 + stop;
                value = PyAccess.Attribute(state, value, path[(end + 1)..stop]);
                end = stop;
                continue;
            }

            var close = path.IndexOf(']', end);
            if (close < 0 || path[end] != '[')
            {
                throw TemplateFailure.Runtime(close < 0 ? "Missing ']' in format string" : "Only '.' or '[' may follow ']' in format field specifier");
            }

            value = PyAccess.Item(state, value, Key(path[(end + 1)..close]));
            end = close + 1;
        }

        return value;
    }

    private object? First(string name)
    {
        if (name.Length == 0)
        {
            return Positional(automatic++);
        }

        if (int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out var index))
        {
            return Positional(index);
        }

        return named is PyDict dict && dict.TryGet(name, out var value) ? value : throw TemplateFailure.Runtime(PyRepr.Quote(name));
    }

    private object? Positional(int index) => index < positional.Length
        ? positional[index]
        : throw TemplateFailure.Runtime("tuple index out of range");

    private static object Key(string text) =>
        long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var index) ? index : PyString.Of(text);
}
