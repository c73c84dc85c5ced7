using System.Text;

namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>An expression of a grammar: what it can be written as, in bytes.</summary>
internal abstract record GrammarNode
{
    // Bytes that no UTF-8 has stand around the text of a token that was added to the vocabulary, so that it is never taken for plain text.
    internal const byte MarkStart = 0xFF;
    internal const byte MarkEnd = 0xFE;

    /// <summary>The empty text.</summary>
    internal static GrammarNode Empty { get; } = new Sequence([]);

    /// <summary>Nothing can be written.</summary>
    internal static GrammarNode Nothing { get; } = new Choice([]);

    /// <summary>One byte of a set.</summary>
    internal sealed record Bytes(ByteSet Set) : GrammarNode;

    /// <summary>One character of a set, in UTF-8.</summary>
    internal sealed record Chars(CharSet Set) : GrammarNode;

    /// <summary>Parts in a row.</summary>
    internal sealed record Sequence(IReadOnlyList<GrammarNode> Parts) : GrammarNode;

    /// <summary>One of several.</summary>
    internal sealed record Choice(IReadOnlyList<GrammarNode> Choices) : GrammarNode;

    /// <summary>A part that is repeated.</summary>
    /// <param name="Part">The part.</param>
    /// <param name="Least">At least so often.</param>
    /// <param name="Most">At most so often; null for any number.</param>
    internal sealed record Repeat(GrammarNode Part, int Least, int? Most) : GrammarNode;

    /// <summary>What a rule describes.</summary>
    internal sealed record Call(GrammarRule Rule) : GrammarNode;

    /// <summary>The texts of an automaton of characters.</summary>
    /// <param name="Automaton">The automaton.</param>
    /// <param name="InJson">Whether they stand in a JSON string, where some characters are escaped and any may be; else in UTF-8.</param>
    internal sealed record Texts(CharAutomaton Automaton, bool InJson) : GrammarNode;

    /// <summary>A text itself.</summary>
    internal static GrammarNode Of(string text) => OfBytes(Encoding.UTF8.GetBytes(text));

    /// <summary>A text that may be a token of its own, such as a special token.</summary>
    internal static GrammarNode Mark(string text) => text.Length == 0 ? Empty : AnyOf(Of(text), Token(text));

    /// <summary>A token that was added to the vocabulary.</summary>
    internal static GrammarNode Token(string text) => OfBytes([MarkStart, .. Encoding.UTF8.GetBytes(text), MarkEnd]);

    /// <summary>Any text, and a mark at its end, which may be a token of its own.</summary>
    internal static GrammarNode Until(string mark) => GrammarRule.Of($"a text and {mark}", AnyOf(
        new Texts(CharAutomaton.Until(mark, with: true), InJson: false),
        Row(new Texts(CharAutomaton.Until(mark, with: false), InJson: false), Token(mark))));

    /// <summary>Parts in a row.</summary>
    internal static GrammarNode Row(params IReadOnlyList<GrammarNode> parts) => parts.Count == 1 ? parts[0] : new Sequence(parts);

    /// <summary>One of several.</summary>
    internal static GrammarNode AnyOf(params IReadOnlyList<GrammarNode> choices) => choices.Count == 1 ? choices[0] : new Choice(choices);

    /// <summary>A part that may be left out.</summary>
    internal static GrammarNode Maybe(GrammarNode part) => new Repeat(part, 0, 1);

    private static Sequence OfBytes(byte[] bytes) => new([.. bytes.Select(static b => new Bytes(ByteSet.Range(b, b)))]);
}

/// <summary>A rule of a grammar; it may refer to itself.</summary>
/// <param name="name">What messages call it.</param>
internal sealed class GrammarRule(string name)
{
    /// <summary>What messages call it.</summary>
    internal string Name => name;

    /// <summary>What it describes.</summary>
    internal GrammarNode Body { get; set; } = GrammarNode.Nothing;

    /// <summary>A rule of a body.</summary>
    internal static GrammarNode.Call Of(string name, GrammarNode body) => new(new GrammarRule(name) { Body = body });
}
