using System.Text.Json.Nodes;
using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>GLM 4.5 and later, Ling 3, Spark, Laguna: <c>&lt;tool_call&gt;name&lt;arg_key&gt;key&lt;/arg_key&gt;&lt;arg_value&gt;value&lt;/arg_value&gt;&lt;/tool_call&gt;</c>.</summary>
internal sealed class GlmFormat : IToolCallFormat
{
    private const string Open = "<tool_call>";
    private const string Close = "</tool_call>";
    private const string Key = "<arg_key>";
    private const string KeyEnd = "</arg_key>";
    private const string Value = "<arg_value>";
    private const string ValueEnd = "</arg_value>";

    public string Name => "glm";

    IReadOnlyList<string> IToolCallFormat.Opens { get; } = [Open];

    IReadOnlyList<string> IToolCallFormat.Marks { get; } = [Open, Close, Key, KeyEnd, Value, ValueEnd];

    bool IToolCallFormat.IsOf(string template) => template.Contains(Key, StringComparison.Ordinal) && template.Contains(Value, StringComparison.Ordinal);

    IReadOnlyList<ToolCall> IToolCallFormat.Read(CallText text, ToolSchemas tools)
    {
        text.Expect(Open);
        text.Space();
        var name = text.Name();
        var arguments = new JsonObject();
        text.Space();
        while (text.Take(Key))
        {
            var key = text.Until(KeyEnd).Trim();
            text.Space();
            text.Expect(Value);
            var value = text.Until(ValueEnd);
            if (text.IsGood)
            {
                arguments[key] = tools.Argument(name, key, value);
            }

            text.Space();
        }

        text.Close(Close);
        return [TypedCalls.Of(name, arguments)];
    }

    GrammarNode IToolCallFormat.Grammar(IReadOnlyList<ToolSchema> tools, int most) => JsonCalls.Several(
        GrammarRule.Of("a call", GrammarNode.Row(
            GrammarNode.Mark(Open),
            GrammarNode.AnyOf([.. tools.Select(static t => GrammarNode.Row(
                GrammarNode.Of(t.Name), s_line,
                t.Typed(static key => GrammarNode.Row(GrammarNode.Mark(Key), GrammarNode.Of(key), GrammarNode.Mark(KeyEnd), s_line, GrammarNode.Mark(Value)), GrammarNode.Empty, ValueEnd, s_line)))]),
            GrammarNode.Mark(Close))),
        s_line,
        most);

    private static readonly GrammarNode s_line = GrammarNode.Maybe(GrammarNode.Of("\n"));
}
