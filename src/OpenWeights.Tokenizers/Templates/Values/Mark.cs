namespace OpenWeights.Tokenizers.Templates.Values;

/// <summary>What a character comes from.</summary>
internal enum MarkKind : byte
{
    /// <summary>The template's own text.</summary>
    Literal,

    /// <summary>A message's role or name, which templates write into a turn's header.</summary>
    Role,

    /// <summary>Anything else of a message: content, reasoning, tool calls.</summary>
    Content,
}

/// <summary>Where a character of a rendered text comes from.</summary>
/// <param name="Turn">The message whose loop iteration wrote it: its index + 1; negative for merged messages; 0 for none.</param>
/// <param name="Owner">The message whose data it is: its index + 1; 0 where it is the template's text.</param>
/// <param name="Kind">What of the message it is.</param>
/// <param name="Generated">Whether it was written inside a <c>{% generation %}</c> block.</param>
internal readonly record struct Mark(int Turn, int Owner, MarkKind Kind, bool Generated);

/// <summary>A stretch of equally marked characters; it begins where the run before it ends.</summary>
internal readonly record struct MarkRun(int End, Mark Mark);
