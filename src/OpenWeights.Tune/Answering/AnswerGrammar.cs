using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Answering;

/// <summary>Grammars of whole answers: what is enforced stands after the reasoning that a model may begin with.</summary>
internal static class AnswerGrammar
{
    /// <summary>The grammar of an answer whose content keeps to another.</summary>
    /// <param name="content">The grammar of the content, such as a JSON schema's.</param>
    /// <param name="reasoning">How the template writes reasoning; null for a text that is no answer of a chat.</param>
    /// <param name="prompt">The prompt, which may begin a reasoning.</param>
    public static Grammar OfContent(Grammar content, ReasoningFormat? reasoning, string prompt) => Of(content, reasoning, prompt, isContent: true);

    /// <summary>The grammar of an answer that is calls of tools.</summary>
    /// <param name="calls">The grammar of the calls (<see cref="ToolCallGrammar"/>).</param>
    /// <param name="reasoning">How the template writes reasoning.</param>
    /// <param name="prompt">The prompt, which may begin a reasoning.</param>
    public static Grammar OfCalls(Grammar calls, ReasoningFormat? reasoning, string prompt) => Of(calls, reasoning, prompt, isContent: false);

    /// <summary>The grammar of an answer that is calls of tools, or content that keeps to another grammar.</summary>
    /// <param name="content">The grammar of the content.</param>
    /// <param name="calls">The grammar of the calls.</param>
    /// <param name="reasoning">How the template writes reasoning.</param>
    /// <param name="prompt">The prompt, which may begin a reasoning.</param>
    public static Grammar OfEither(Grammar content, Grammar calls, ReasoningFormat? reasoning, string prompt)
    {
        ArgumentNullException.ThrowIfNull(content);
        ArgumentNullException.ThrowIfNull(calls);
        ArgumentNullException.ThrowIfNull(prompt);

        // Content and calls are messages of different channels, where there are channels and none has begun.
        var hasMessages = reasoning is { HasChannels: true } && !prompt.EndsWith(ReasoningFormat.BodyStart, StringComparison.Ordinal);
        return Of(new Grammar(GrammarNode.AnyOf(hasMessages ? Message(content.Root) : content.Root, calls.Root)), reasoning, prompt, isContent: false);
    }

    private static Grammar Of(Grammar grammar, ReasoningFormat? reasoning, string prompt, bool isContent)
    {
        ArgumentNullException.ThrowIfNull(grammar);
        ArgumentNullException.ThrowIfNull(prompt);
        if (reasoning is null || (!reasoning.HasChannels && (!reasoning.HasMarks || prompt.AsSpan().TrimEnd().EndsWith(reasoning.Close, StringComparison.Ordinal))))
        {
            return grammar;
        }

        if (!reasoning.HasChannels)
        {
            var isOpen = reasoning.IsOpenAtEnd(prompt);
            return grammar.Larger($"{reasoning.Open} {reasoning.Close} {isOpen}", root => AfterMarks(root, reasoning, isOpen));
        }

        // A prompt that ends with a header has begun the message.
        return prompt.EndsWith(ReasoningFormat.BodyStart, StringComparison.Ordinal) ? grammar : grammar.Larger($"{isContent}", root => InChannels(root, isContent));
    }

    // The analysis, and then a message of the channel final, or one to a tool.
    private static GrammarNode InChannels(GrammarNode root, bool isContent)
    {
        var analysis = GrammarNode.Row(
            GrammarNode.Mark(ReasoningFormat.Channel), GrammarNode.Of("analysis"), GrammarNode.Mark(ReasoningFormat.BodyStart),
            GrammarNode.Until(ReasoningFormat.MessageEnd), GrammarNode.Mark(ReasoningFormat.MessageStart), GrammarNode.Of("assistant"));
        return GrammarNode.Row(GrammarNode.Maybe(analysis), isContent ? Message(root) : root);
    }

    private static GrammarNode Message(GrammarNode content) =>
        GrammarNode.Row(GrammarNode.Mark(ReasoningFormat.Channel), GrammarNode.Of("final"), GrammarNode.Mark(ReasoningFormat.BodyStart), content);

    private static GrammarNode AfterMarks(GrammarNode root, ReasoningFormat reasoning, bool isOpen)
    {
        var lines = new GrammarNode.Repeat(GrammarNode.Of("\n"), 0, 2);
        var rest = GrammarNode.Row(GrammarNode.Until(reasoning.Close), lines);
        return isOpen
            ? GrammarNode.Row(rest, root)
            : GrammarNode.Row(GrammarNode.Maybe(GrammarNode.Row(lines, GrammarNode.Mark(reasoning.Open), rest)), root);
    }
}
