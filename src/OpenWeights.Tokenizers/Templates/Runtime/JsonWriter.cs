using System.Globalization;
using System.Numerics;

using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>Python's <c>json.dumps</c>, which is what transformers' <c>tojson</c> is.</summary>
/// <param name="builder">Where it writes to.</param>
/// <param name="ensureAscii">Whether what is not ASCII is escaped.</param>
/// <param name="indent">Indentation per level; null for a single line.</param>
/// <param name="itemSeparator">Between items.</param>
/// <param name="keySeparator">Between a key and its value.</param>
/// <param name="sortKeys">Whether keys are sorted.</param>
internal sealed class JsonWriter(TextBuilder builder, bool ensureAscii, string? indent, string itemSeparator, string keySeparator, bool sortKeys)
{
    private int level;

    /// <exception cref="TemplateFailure">JSON has no form for the value.</exception>
    public void Write(object? value)
    {
        TemplateFailure.GuardStack();
        switch (value)
        {
            case PyString text:
                String(text);
                break;
            case PyList list:
                Items('[', ']', list.Items.Count, list.Items, Write);
                break;
            case PyTuple tuple:
                Items('[', ']', tuple.Items.Length, tuple.Items, Write);
                break;
            case PyDict dict:
                Items('{', '}', dict.Count, Sorted(dict), Pair);
                break;
            default:
                builder.Append(Scalar(value) ?? throw TemplateFailure.Type($"Object of type {PyType.Name(value)} is not JSON serializable"));
                break;
        }
    }

    private static string? Scalar(object? value) => value switch
    {
        null => "null",
        bool b => b ? "true" : "false",
        long n => n.ToString(CultureInfo.InvariantCulture),
        BigInteger big => big.ToString(CultureInfo.InvariantCulture),
        double d when double.IsNaN(d) => "NaN",
        double d when double.IsInfinity(d) => d > 0 ? "Infinity" : "-Infinity",
        double d => PyFloat.Repr(d),
        _ => null,
    };

    private IEnumerable<KeyValuePair<object?, object?>> Sorted(PyDict dict) => sortKeys
        ? PySort.Sorted(dict.Entries, entry => entry.Key, isReversed: false)
        : dict.Entries;

    private void Items<T>(char open, char close, int count, IEnumerable<T> items, Action<T> write)
    {
        builder.Append(open);
        level++;
        var isFirst = true;
        foreach (var item in items)
        {
            if (!isFirst)
            {
                builder.Append(itemSeparator);
            }

            isFirst = false;
            NewLine();
            write(item);
        }

        level--;
        if (count > 0)
        {
            NewLine();
        }

        builder.Append(close);
    }

    private void Pair(KeyValuePair<object?, object?> pair)
    {
        String(pair.Key switch
        {
            PyString text => text,
            PyTuple or PyNamespace or Macro => throw Unsuitable(pair.Key),
            var key => PyString.Of(Scalar(key) ?? throw Unsuitable(key)),
        });
        builder.Append(keySeparator);
        Write(pair.Value);
    }

    private static TemplateFailure Unsuitable(object? key) =>
        TemplateFailure.Type($"keys must be str, int, float, bool or None, not {PyType.Name(key)}");

    private void NewLine()
    {
        if (indent is null)
        {
            return;
        }

        builder.Append('\n');
        for (var i = 0; i < level; i++)
        {
            builder.Append(indent);
        }
    }

    private void String(PyString text)
    {
        builder.Append('"');
        var (value, start) = (text.Value, 0);
        for (var at = 0; at < value.Length; at++)
        {
            var escape = Escape(value[at]);
            if (escape is not null)
            {
                builder.Append(text, start, at);
                builder.Append(escape, text.MarkAt(at));
                start = at + 1;
            }
        }

        builder.Append(text, start, value.Length);
        builder.Append('"');
    }

    private string? Escape(char c) => c switch
    {
        '"' => "\\\"",
        '\\' => @"\\",
        '\n' => @"\n",
        '\r' => @"\r",
        '\t' => @"\t",
        '\b' => @"\b",
        '\f' => @"\f",
        < ' ' => $"\\u{(int)c:x4}",
        >= '\x7f' when ensureAscii => $"\\u{(int)c:x4}",
        _ => null,
    };
}
