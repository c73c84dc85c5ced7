using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>
/// A list of JSON objects after a mark: Granite 3, Command R7B, Nemotron Nano, Apriel, MiniMax M1 (whose list has neither brackets nor commas), Firefunction.
/// </summary>
/// <param name="name">The format's name.</param>
/// <param name="open">What begins the list.</param>
/// <param name="close">What ends it; empty for nothing.</param>
internal sealed class JsonListFormat(string name, string open, string close) : IToolCallFormat
{
    /// <summary>The key of a tool's name.</summary>
    internal string NameKey { get; init; } = "name";

    /// <summary>The key of the arguments.</summary>
    internal string ArgumentsKey { get; init; } = "arguments";

    /// <summary>A part of the template's text that tells it from others with the same mark.</summary>
    internal string? Sign { get; init; }

    /// <summary>Whether the objects stand on lines instead of in an array.</summary>
    internal bool OnLines { get; init; }

    public string Name => name;

    IReadOnlyList<string> IToolCallFormat.Opens { get; } = [open];

    IReadOnlyList<string> IToolCallFormat.Marks { get; } = close.Length > 0 ? [open, close] : [open];

    bool IToolCallFormat.IsOf(string template) => template.Contains(Sign ?? open, StringComparison.Ordinal);

    IReadOnlyList<ToolCall> IToolCallFormat.Read(CallText text, ToolSchemas tools)
    {
        text.Expect(open);
        var calls = JsonCalls.Read(text);
        text.Space();
        while (OnLines && text.IsGood && text.Sees("{"))
        {
            calls.AddRange(JsonCalls.Read(text));
            text.Space();
        }

        if (close.Length > 0)
        {
            text.Close(close);
        }

        return calls;
    }

    GrammarNode IToolCallFormat.Grammar(IReadOnlyList<ToolSchema> tools, int most)
    {
        var call = JsonCalls.Grammar(tools, NameKey, ArgumentsKey);
        return GrammarNode.Row(
            GrammarNode.Mark(open),
            OnLines ? GrammarNode.Row(GrammarNode.Of("\n"), JsonCalls.Several(call, GrammarNode.Of("\n"), most), GrammarNode.Of("\n")) : JsonValues.Brackets(JsonCalls.Several(call, JsonValues.Comma, most)),
            GrammarNode.Mark(close));
    }
}
