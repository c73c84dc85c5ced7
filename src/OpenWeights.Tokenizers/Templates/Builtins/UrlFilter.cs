using System.Text;

using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Builtins;

/// <summary>The filter <c>urlencode</c>.</summary>
internal static class UrlFilter
{
    /// <summary>A string quoted for a path, or pairs quoted for a query.</summary>
    public static PyString Encode(RenderState state, object? value)
    {
        if (value is PyString || !PyConvert.IsIterable(value))
        {
            return Quote(PyConvert.ToStr(state, value), isQuery: false);
        }

        var pairs = value is PyDict dict ? new DictView(dict, DictViewKind.Items).Items() : PyConvert.Iterate(state, value);
        var builder = state.NewText();
        foreach (var pair in pairs)
        {
            if (PyConvert.ToList(state, pair) is not [var key, var item])
            {
                throw TemplateFailure.Runtime("urlencode needs pairs of a key and a value");
            }

            builder.Append(builder.Length > 0 ? "&" : "");
            builder.Append(Quote(PyConvert.ToStr(state, key), isQuery: true));
            builder.Append('=');
            builder.Append(Quote(PyConvert.ToStr(state, item), isQuery: true));
        }

        return builder.Build();
    }

    private static PyString Quote(PyString text, bool isQuery)
    {
        var builder = new StringBuilder();
        foreach (var b in Encoding.UTF8.GetBytes(text.Value))
        {
            var c = (char)b;
            _ = c switch
            {
                _ when char.IsAsciiLetterOrDigit(c) || c is '_' or '.' or '-' or '~' => builder.Append(c),
                '/' when !isQuery => builder.Append(c),
                ' ' when isQuery => builder.Append('+'),
                _ => builder.Append('%').Append(b.ToString("X2", System.Globalization.CultureInfo.InvariantCulture)),
            };
        }

        return text.Derive(builder.ToString());
    }
}
