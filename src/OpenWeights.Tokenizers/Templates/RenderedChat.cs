namespace OpenWeights.Tokenizers.Templates;

/// <summary>A rendered conversation, with what each message contributed and what the assistant has to produce.</summary>
public sealed class RenderedChat
{
    internal RenderedChat(string text, IReadOnlyList<ChatSpan> messageSpans, IReadOnlyList<ChatSpan> assistantSpans, IReadOnlyList<string> warnings, string? missingEnd = null)
    {
        Text = text;
        MessageSpans = messageSpans;
        AssistantSpans = assistantSpans;
        Warnings = warnings;
        MissingEnd = missingEnd;
    }

    /// <summary>The text, exactly as <see cref="ChatTemplate.Render"/> gives it.</summary>
    public string Text { get; }

    /// <summary>
    /// What each message's turn wrote, headers and ends of turn included, in the order of the text. A message may have several
    /// stretches or none; text of the template that belongs to no message is in none.
    /// </summary>
    public IReadOnlyList<ChatSpan> MessageSpans { get; }

    /// <summary>
    /// What the assistant itself has to produce when the model is served: of each assistant turn the text after the generation prompt,
    /// through the end-of-turn token and not further (white space that the template writes after that token is not produced). In the
    /// order of the text, without overlaps; a message has several where the template writes the results of its tool calls into its turn. A
    /// template's own <c>{% generation %}</c> blocks are taken exactly as they are.
    /// </summary>
    public IReadOnlyList<ChatSpan> AssistantSpans { get; }

    /// <summary>
    /// What the template writes after the last turn of the assistant only where another message follows, and not here, where the turn ends
    /// the text; null where nothing is missing. After the last of <see cref="AssistantSpans"/> it teaches the model to stop.
    /// </summary>
    public string? MissingEnd { get; }

    /// <summary>Warnings about the template for training on this text; usually none.</summary>
    public IReadOnlyList<string> Warnings { get; }
}

/// <summary>A stretch of a rendered text that belongs to a message.</summary>
/// <param name="MessageIndex">The message's place in the conversation, from 0; -1 for a generation block outside of all messages.</param>
/// <param name="Start">The first character, in UTF-16 units from 0.</param>
/// <param name="Length">The number of characters, in UTF-16 units.</param>
public readonly record struct ChatSpan(int MessageIndex, int Start, int Length)
{
    /// <summary>The position after the last character.</summary>
    public int End => Start + Length;
}
