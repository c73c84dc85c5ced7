using System.Text;

using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tokenizers.Tests.Templates;

/// <summary>Makes spans readable: the text with brackets around what the assistant produces.</summary>
internal static class SpanMarking
{
    public static string Marked(this RenderedChat chat)
    {
        var builder = new StringBuilder();
        var at = 0;
        foreach (var span in chat.AssistantSpans)
        {
            _ = builder.Append(chat.Text, at, span.Start - at).Append('⟦').Append(chat.Text, span.Start, span.Length).Append('⟧');
            at = span.End;
        }

        return builder.Append(chat.Text, at, chat.Text.Length - at).ToString();
    }

    public static string TextOf(this RenderedChat chat, ChatSpan span) => chat.Text.Substring(span.Start, span.Length);
}
