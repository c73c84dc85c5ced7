using System.Net;
using System.Text;

using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>markupsafe's escaping: what the <c>escape</c> filter does, and what safe HTML does to a string that is added to it.</summary>
internal static class Html
{
    /// <summary>The value as safe HTML; what is safe already stays.</summary>
    public static PyString Escape(RenderState state, object? value)
    {
        if (value is PyString { IsMarkup: true } safe)
        {
            return safe;
        }

        var text = PyConvert.ToStr(state, value);
        var builder = state.NewText();
        var start = 0;
        for (var i = 0; i < text.Value.Length; i++)
        {
            var entity = text.Value[i] switch
            {
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '\'' => "&#39;",
                '"' => "&#34;",
                _ => null,
            };
            if (entity is not null)
            {
                builder.Append(text, start, i);
                builder.Append(entity, text.MarkAt(i));
                start = i + 1;
            }
        }

        builder.Append(text, start, text.Value.Length);
        return builder.Build(isMarkup: true);
    }

    /// <summary>Without comments and tags, white space as single spaces, entities as their characters.</summary>
    public static string StripTags(string text)
    {
        var kept = Cut(Cut(text, "<!--", "-->"), "<", ">");
        var spaced = string.Create(kept.Length, kept, (span, text) =>
        {
            for (var i = 0; i < span.Length; i++)
            {
                span[i] = PyUnicode.IsSpace(text[i]) ? ' ' : text[i];
            }
        });
        return WebUtility.HtmlDecode(string.Join(' ', spaced.Split(' ', StringSplitOptions.RemoveEmptyEntries)));
    }

    private static string Cut(string text, string open, string close)
    {
        var builder = new StringBuilder(text.Length);
        var at = 0;
        while (true)
        {
            var start = text.IndexOf(open, at, StringComparison.Ordinal);
            var end = start < 0 ? -1 : text.IndexOf(close, start, StringComparison.Ordinal);
            if (end < 0)
            {
                return builder.Append(text, at, text.Length - at).ToString();
            }

            _ = builder.Append(text, at, start - at);
            at = end + close.Length;
        }
    }
}
