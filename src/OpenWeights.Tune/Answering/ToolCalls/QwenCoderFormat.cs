using System.Text.Json.Nodes;
using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>
/// Qwen3-Coder, Qwen 3.5, Nemotron 3, StepFun and Seed-OSS: <c>&lt;tool_call&gt;&lt;function=name&gt;&lt;parameter=key&gt;value&lt;/parameter&gt;&lt;/function&gt;&lt;/tool_call&gt;</c>.
/// </summary>
/// <param name="name">The format's name.</param>
/// <param name="open">What begins a call.</param>
/// <param name="close">What ends it.</param>
/// <param name="onLines">Whether a value stands on lines of its own.</param>
internal sealed class QwenCoderFormat(string name, string open, string close, bool onLines) : IToolCallFormat
{
    private const string Function = "<function=";
    private const string FunctionEnd = "</function>";
    private const string Parameter = "<parameter=";
    private const string ParameterEnd = "</parameter>";

    public string Name => name;

    // Models often leave out the outer mark.
    IReadOnlyList<string> IToolCallFormat.Opens { get; } = [open, Function];

    IReadOnlyList<string> IToolCallFormat.Marks { get; } = [open, close, Function, FunctionEnd, Parameter, ParameterEnd];

    bool IToolCallFormat.IsOf(string template) => template.Contains(open, StringComparison.Ordinal) && template.Contains(Function, StringComparison.Ordinal) && template.Contains(Parameter, StringComparison.Ordinal);

    IReadOnlyList<ToolCall> IToolCallFormat.Read(CallText text, ToolSchemas tools)
    {
        var isOpen = text.Take(open);
        text.Space();
        text.Expect(Function);
        var called = text.Until(">").Trim();
        var arguments = new JsonObject();
        text.Space();
        while (text.Take(Parameter))
        {
            var key = text.Until(">").Trim();
            var value = Value(text);
            if (text.IsGood)
            {
                arguments[key] = tools.Argument(called, key, value);
            }

            text.Space();
        }

        text.Expect(FunctionEnd);
        if (isOpen)
        {
            text.Close(close);
        }
        else if (text.IsGood)
        {
            // The closing mark may still be there.
            text.Space();
            _ = text.IsAtEnd || text.Take(close);
        }

        return called.Length > 0 ? [TypedCalls.Of(called, arguments)] : [];
    }

    GrammarNode IToolCallFormat.Grammar(IReadOnlyList<ToolSchema> tools, int most)
    {
        var line = GrammarNode.Of(onLines ? "\n" : "");
        return JsonCalls.Several(
            GrammarRule.Of("a call", GrammarNode.Row(
                GrammarNode.Mark(open), GrammarNode.Of("\n" + Function),
                GrammarNode.AnyOf([.. tools.Select(t => GrammarNode.Row(
                    GrammarNode.Of(t.Name + ">\n"),
                    t.Typed(key => GrammarNode.Row(GrammarNode.Of($"{Parameter}{key}>"), line), line, ParameterEnd, GrammarNode.Of("\n"))))]),
                GrammarNode.Of(FunctionEnd + "\n"), GrammarNode.Mark(close))),
            GrammarNode.Of("\n"),
            most);
    }

    // A value may have the closing mark in it: what follows says which one it is.
    private static string Value(CallText text)
    {
        var value = text.Until(ParameterEnd);
        while (text.IsGood && !EndsHere(text))
        {
            value += ParameterEnd + text.Until(ParameterEnd);
        }

        return TypedCalls.WithoutLines(value);
    }

    private static bool EndsHere(CallText text)
    {
        var after = text.Copy();
        after.Space();
        return after.Sees(Parameter) || after.Sees(FunctionEnd) || after.IsCut;
    }
}
