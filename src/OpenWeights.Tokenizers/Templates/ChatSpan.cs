namespace OpenWeights.Tokenizers.Templates;

/// <summary>A stretch of a rendered text that belongs to a message.</summary>
/// <param name="MessageIndex">The message's place in the conversation, from 0; -1 for a generation block outside of all messages.</param>
/// <param name="Start">The first character, in UTF-16 units from 0.</param>
/// <param name="Length">The number of characters, in UTF-16 units.</param>
public readonly record struct ChatSpan(int MessageIndex, int Start, int Length)
{
    /// <summary>The position behind the last character.</summary>
    public int End => Start + Length;
}
