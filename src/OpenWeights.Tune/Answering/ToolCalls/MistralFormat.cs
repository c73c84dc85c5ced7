using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>Mistral: <c>[TOOL_CALLS] [{"name": ..., "arguments": {...}}]</c>, and in newer models <c>[TOOL_CALLS]name[ARGS]{...}</c> for each call.</summary>
internal sealed class MistralFormat : IToolCallFormat
{
    private const string Open = "[TOOL_CALLS]";
    private const string CallId = "[CALL_ID]";
    private const string Arguments = "[ARGS]";

    private readonly bool _isNewer;

    /// <summary>Creates a format.</summary>
    /// <param name="isNewer">Whether each call has marks of its own.</param>
    internal MistralFormat(bool isNewer) => _isNewer = isNewer;

    public string Name => _isNewer ? "mistral" : "mistral-list";

    IReadOnlyList<string> IToolCallFormat.Opens { get; } = [Open];

    IReadOnlyList<string> IToolCallFormat.Marks { get; } = [Open, CallId, Arguments];

    bool IToolCallFormat.IsOf(string template) => template.Contains(Open, StringComparison.Ordinal) && (!_isNewer || template.Contains(Arguments, StringComparison.Ordinal));

    IReadOnlyList<ToolCall> IToolCallFormat.Read(CallText text, ToolSchemas tools)
    {
        text.Expect(Open);
        text.Space();
        if (text.Sees("[") && !text.Sees(Arguments) && !text.Sees(CallId))
        {
            return JsonCalls.Read(text, IsId);
        }

        var name = text.Name();
        text.Space();
        string? id = null;
        if (text.Take(CallId))
        {
            id = text.Name();
            text.Space();
        }

        _ = text.Take(Arguments);
        return text.Json() is { ValueKind: System.Text.Json.JsonValueKind.Object } arguments ? [new ToolCall(name, arguments.GetRawText(), id is not null && IsId(id) ? id : null)] : [];
    }

    GrammarNode IToolCallFormat.Grammar(IReadOnlyList<ToolSchema> tools, int most) => _isNewer
        ? JsonCalls.Several(
            GrammarRule.Of("a call", GrammarNode.Row(GrammarNode.Mark(Open), GrammarNode.AnyOf([.. tools.Select(static t => GrammarNode.Row(GrammarNode.Of(t.Name), GrammarNode.Mark(Arguments), t.Json()))]))),
            GrammarNode.Empty,
            most)
        : GrammarNode.Row(GrammarNode.Mark(Open), GrammarNode.Maybe(GrammarNode.Of(" ")), JsonValues.Brackets(JsonCalls.Several(JsonCalls.Grammar(tools), JsonValues.Comma, most)));

    // The templates take no other identifiers.
    string IToolCallFormat.NewId() => ToolCall.NewId("", 9);

    private static bool IsId(string id) => id.Length == 9 && id.All(char.IsAsciiLetterOrDigit);
}
