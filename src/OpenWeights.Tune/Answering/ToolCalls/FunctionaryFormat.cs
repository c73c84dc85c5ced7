using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>Functionary 3.1: <c>&lt;function=name&gt;{...}&lt;/function&gt;</c>.</summary>
internal sealed class FunctionaryFormat : IToolCallFormat
{
    private const string Open = "<function=";
    private const string Close = "</function>";

    public string Name => "functionary";

    IReadOnlyList<string> IToolCallFormat.Opens { get; } = [Open];

    IReadOnlyList<string> IToolCallFormat.Marks { get; } = [Open, Close];

    bool IToolCallFormat.IsOf(string template) => template.Contains(Open, StringComparison.Ordinal) && template.Contains(Close, StringComparison.Ordinal);

    IReadOnlyList<ToolCall> IToolCallFormat.Read(CallText text, ToolSchemas tools)
    {
        text.Expect(Open);
        var name = text.Until(">").Trim();
        var arguments = text.Json();
        text.Close(Close);
        return arguments is { ValueKind: System.Text.Json.JsonValueKind.Object } map && name.Length > 0 ? [new ToolCall(name, map.GetRawText())] : [];
    }

    GrammarNode IToolCallFormat.Grammar(IReadOnlyList<ToolSchema> tools, int most) => JsonCalls.Several(
        GrammarRule.Of("a call", GrammarNode.Row(GrammarNode.Of(Open), GrammarNode.AnyOf([.. tools.Select(static t => GrammarNode.Row(GrammarNode.Of(t.Name + ">"), t.Json()))]), GrammarNode.Of(Close))),
        GrammarNode.Maybe(GrammarNode.Of("\n")),
        most);
}
