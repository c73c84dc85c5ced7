using System.Globalization;
using System.Numerics;
using System.Text;

using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>Python's <c>repr()</c>.</summary>
internal static class PyRepr
{
    /// <summary>For messages, where there is no render to count against.</summary>
    public static string Of(object? value)
    {
        var builder = new TextBuilder(new RenderState([], default, tracing: false));
        Write(builder, value);
        return builder.Build().Value;
    }

    /// <summary>A string in Python's quotes.</summary>
    public static string Quote(string value) => Of(PyString.Of(value));

    public static void Write(TextBuilder builder, object? value)
    {
        TemplateFailure.GuardStack();
        switch (value)
        {
            case PyString { IsMarkup: true } s:
                builder.Append("Markup(");
                WriteString(builder, s);
                builder.Append(')');
                break;
            case PyString s:
                WriteString(builder, s);
                break;
            case PyList list:
                builder.Append('[');
                WriteItems(builder, list.Items);
                builder.Append(']');
                break;
            case PyTuple tuple:
                builder.Append('(');
                WriteItems(builder, tuple.Items);
                builder.Append(tuple.Items.Length == 1 ? ",)" : ")");
                break;
            case PyDict dict:
                WriteDict(builder, dict);
                break;
            case DictView view:
                builder.Append(PyType.Name(view));
                builder.Append("([");
                WriteItems(builder, view.Items());
                builder.Append("])");
                break;
            case PyNamespace space:
                builder.Append("<Namespace ");
                WriteDict(builder, space.Attributes);
                builder.Append('>');
                break;
            default:
                builder.Append(Scalar(value));
                break;
        }
    }

    /// <summary>A value without others in it.</summary>
    public static string Scalar(object? value) => value switch
    {
        null => "None",
        bool b => b ? "True" : "False",
        long n => n.ToString(CultureInfo.InvariantCulture),
        BigInteger big => big.ToString(CultureInfo.InvariantCulture),
        double d => PyFloat.Repr(d),
        Undefined => "Undefined",
        PyRange { Step: 1 } range => string.Create(CultureInfo.InvariantCulture, $"range({range.Start}, {range.Stop})"),
        PyRange range => string.Create(CultureInfo.InvariantCulture, $"range({range.Start}, {range.Stop}, {range.Step})"),
        Macro macro => macro.Name is null ? "<Macro anonymous>" : $"<Macro {Quote(macro.Name)}>",
        LoopContext loop => string.Create(CultureInfo.InvariantCulture, $"<LoopContext {loop.Index0 + 1}/{loop.Length}>"),
        BuiltinFunction function => $"<{function.TypeName} {function.Name}>",
        PySlice slice => $"slice({Of(slice.Start)}, {Of(slice.Stop)}, {Of(slice.Step)})",
        _ => $"<{PyType.QualifiedName(value)} object>",
    };

    private static void WriteItems(TextBuilder builder, IEnumerable<object?> items)
    {
        var isFirst = true;
        foreach (var item in items)
        {
            if (!isFirst)
            {
                builder.Append(", ");
            }

            isFirst = false;
            Write(builder, item);
        }
    }

    private static void WriteDict(TextBuilder builder, PyDict dict)
    {
        builder.Append('{');
        var isFirst = true;
        foreach (var (key, value) in dict.Entries)
        {
            if (!isFirst)
            {
                builder.Append(", ");
            }

            isFirst = false;
            Write(builder, key);
            builder.Append(": ");
            Write(builder, value);
        }

        builder.Append('}');
    }

    private static void WriteString(TextBuilder builder, PyString s)
    {
        var quote = s.Value.Contains('\'') && !s.Value.Contains('"') ? '"' : '\'';
        builder.Append(quote);
        for (var at = 0; at < s.Value.Length;)
        {
            var width = PyString.WidthAt(s.Value, at);
            var escape = Escape(s.Value, at, quote);
            if (escape is null)
            {
                builder.Append(s, at, at + width);
            }
            else
            {
                builder.Append(escape, s.MarkAt(at));
            }

            at += width;
        }

        builder.Append(quote);
    }

    /// <summary>The escape of a character that is not printed as it is.</summary>
    private static string? Escape(string text, int at, char quote)
    {
        var c = text[at];
        switch (c)
        {
            case '\\':
                return @"\\";
            case '\n':
                return @"\n";
            case '\r':
                return @"\r";
            case '\t':
                return @"\t";
        }

        if (c == quote)
        {
            return "\\" + c;
        }

        if (c is >= ' ' and < '\x7f')
        {
            return null;
        }

        if (!Rune.TryGetRuneAt(text, at, out var rune))
        {
            return $"\\u{(int)c:x4}";
        }

        if (PyUnicode.IsPrintable(rune))
        {
            return null;
        }

        return rune.Value switch
        {
            < 0x100 => $"\\x{rune.Value:x2}",
            < 0x10000 => $"\\u{rune.Value:x4}",
            _ => $"\\U{rune.Value:x8}",
        };
    }
}
