using System.Globalization;
using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>Kimi K2: <c>&lt;|tool_call_begin|&gt;functions.name:0&lt;|tool_call_argument_begin|&gt;{...}&lt;|tool_call_end|&gt;</c>, whose first part is the call's identifier.</summary>
internal sealed class KimiFormat : IToolCallFormat
{
    private const string All = "<|tool_calls_section_begin|>";
    private const string AllEnd = "<|tool_calls_section_end|>";
    private const string Open = "<|tool_call_begin|>";
    private const string Arguments = "<|tool_call_argument_begin|>";
    private const string Close = "<|tool_call_end|>";
    private const string Functions = "functions.";

    public string Name => "kimi-k2";

    IReadOnlyList<string> IToolCallFormat.Opens { get; } = [Open];

    IReadOnlyList<string> IToolCallFormat.Around { get; } = [All, AllEnd];

    IReadOnlyList<string> IToolCallFormat.Marks { get; } = [All, AllEnd, Open, Arguments, Close];

    bool IToolCallFormat.IsOf(string template) => template.Contains(Arguments, StringComparison.Ordinal);

    IReadOnlyList<ToolCall> IToolCallFormat.Read(CallText text, ToolSchemas tools)
    {
        text.Expect(Open);
        var id = text.Until(Arguments).Trim();
        var arguments = text.Json();
        text.Close(Close);
        var name = id.StartsWith(Functions, StringComparison.Ordinal) ? id[Functions.Length..] : id;
        var number = name.LastIndexOf(':');
        var hasNumber = number > 0 && int.TryParse(name.AsSpan(number + 1), NumberStyles.None, CultureInfo.InvariantCulture, out _);
        name = hasNumber ? name[..number] : name;
        return arguments is { ValueKind: System.Text.Json.JsonValueKind.Object } map && name.Length > 0 ? [new ToolCall(name, map.GetRawText(), hasNumber ? id : null)] : [];
    }

    GrammarNode IToolCallFormat.Grammar(IReadOnlyList<ToolSchema> tools, int most) => GrammarNode.Row(
        GrammarNode.Mark(All),
        JsonCalls.Several(
            GrammarRule.Of("a call", GrammarNode.Row(
                GrammarNode.Mark(Open), GrammarNode.Of(Functions),
                GrammarNode.AnyOf([.. tools.Select(static t => GrammarNode.Row(GrammarNode.Of(t.Name + ":"), JsonValues.Digits(1, 3), GrammarNode.Mark(Arguments), t.Json()))]),
                GrammarNode.Mark(Close))),
            GrammarNode.Empty,
            most),
        GrammarNode.Mark(AllEnd));
}
