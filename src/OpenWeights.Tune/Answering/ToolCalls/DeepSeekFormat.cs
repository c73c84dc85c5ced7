using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>
/// DeepSeek V3 and R1: <c>&lt;｜tool▁call▁begin｜&gt;function&lt;｜tool▁sep｜&gt;name</c>, the arguments in a block of JSON; V3.1: the name, the separator and
/// the arguments.
/// </summary>
internal sealed class DeepSeekFormat : IToolCallFormat
{
    private const string All = "<｜tool▁calls▁begin｜>";
    private const string AllEnd = "<｜tool▁calls▁end｜>";
    private const string Open = "<｜tool▁call▁begin｜>";
    private const string Separator = "<｜tool▁sep｜>";
    private const string Close = "<｜tool▁call▁end｜>";
    private const string Block = "```json";

    private readonly bool _hasBlocks;

    /// <summary>Creates a format.</summary>
    /// <param name="hasBlocks">Whether the arguments stand in blocks.</param>
    internal DeepSeekFormat(bool hasBlocks) => _hasBlocks = hasBlocks;

    public string Name => _hasBlocks ? "deepseek-v3" : "deepseek-v3.1";

    IReadOnlyList<string> IToolCallFormat.Opens { get; } = [Open];

    IReadOnlyList<string> IToolCallFormat.Around { get; } = [All, AllEnd];

    IReadOnlyList<string> IToolCallFormat.Marks { get; } = [All, AllEnd, Open, Separator, Close];

    bool IToolCallFormat.IsOf(string template) => template.Contains(Open, StringComparison.Ordinal) && (!_hasBlocks || template.Contains(Block, StringComparison.Ordinal));

    IReadOnlyList<ToolCall> IToolCallFormat.Read(CallText text, ToolSchemas tools)
    {
        text.Expect(Open);
        var name = text.Until(Separator).Trim();
        text.Space();
        if (text.IsGood && !text.Sees("{"))
        {
            // Before the separator stands "function" then, and the name after it.
            name = text.Until("\n").Trim();
            text.Space();
            text.Expect(Block);
        }

        var arguments = text.Json();
        text.Space();
        _ = text.Take("```");
        text.Close(Close);
        return arguments is { ValueKind: System.Text.Json.JsonValueKind.Object } map && name.Length > 0 ? [new ToolCall(name, map.GetRawText())] : [];
    }

    GrammarNode IToolCallFormat.Grammar(IReadOnlyList<ToolSchema> tools, int most) => GrammarNode.Row(
        GrammarNode.Mark(All),
        JsonCalls.Several(
            GrammarRule.Of("a call", GrammarNode.Row(
                GrammarNode.Mark(Open),
                GrammarNode.AnyOf([.. tools.Select(t => _hasBlocks
                    ? GrammarNode.Row(GrammarNode.Of("function"), GrammarNode.Mark(Separator), GrammarNode.Of($"{t.Name}\n{Block}\n"), t.Json(), GrammarNode.Of("\n```"))
                    : GrammarNode.Row(GrammarNode.Of(t.Name), GrammarNode.Mark(Separator), t.Json()))]),
                GrammarNode.Mark(Close))),
            _hasBlocks ? GrammarNode.Of("\n") : GrammarNode.Empty,
            most),
        GrammarNode.Mark(AllEnd));
}
