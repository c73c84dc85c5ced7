using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>Hermes, Qwen 2.5 and 3, SmolLM3, Granite 4 and others: <c>&lt;tool_call&gt;{"name": ..., "arguments": {...}}&lt;/tool_call&gt;</c>.</summary>
internal sealed class HermesFormat : IToolCallFormat
{
    private const string Open = "<tool_call>";
    private const string Close = "</tool_call>";

    public string Name => "hermes";

    IReadOnlyList<string> IToolCallFormat.Opens { get; } = [Open];

    IReadOnlyList<string> IToolCallFormat.Marks { get; } = [Open, Close];

    bool IToolCallFormat.IsOf(string template) => template.Contains(Open, StringComparison.Ordinal);

    IReadOnlyList<ToolCall> IToolCallFormat.Read(CallText text, ToolSchemas tools)
    {
        text.Expect(Open);
        var calls = JsonCalls.Read(text);
        text.Close(Close);
        return calls;
    }

    GrammarNode IToolCallFormat.Grammar(IReadOnlyList<ToolSchema> tools, int most) => JsonCalls.Several(
        GrammarRule.Of("a call", GrammarNode.Row(GrammarNode.Mark(Open), GrammarNode.Of("\n"), JsonCalls.Grammar(tools), GrammarNode.Of("\n"), GrammarNode.Mark(Close))),
        GrammarNode.Of("\n"),
        most);
}
