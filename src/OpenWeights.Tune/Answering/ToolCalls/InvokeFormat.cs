using System.Text.Json.Nodes;
using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>
/// MiniMax M2 and DeepSeek V3.2 and V4: <c>&lt;invoke name="..."&gt;&lt;parameter name="..."&gt;value&lt;/parameter&gt;&lt;/invoke&gt;</c>, with a mark in each tag,
/// and in DeepSeek's parameters whether they are strings.
/// </summary>
/// <param name="name">The format's name.</param>
/// <param name="mark">What stands at the beginning of each tag's name.</param>
/// <param name="all">The tag around the calls.</param>
/// <param name="saysStrings">Whether a parameter says whether it is a string.</param>
internal sealed class InvokeFormat(string name, string mark, string all, bool saysStrings) : IToolCallFormat
{
    private readonly string _open = $"<{mark}invoke name=\"";
    private readonly string _close = $"</{mark}invoke>";
    private readonly string _parameter = $"<{mark}parameter name=\"";
    private readonly string _parameterEnd = $"</{mark}parameter>";
    private readonly string _all = $"<{all}>";
    private readonly string _allEnd = $"</{all}>";

    public string Name => name;

    IReadOnlyList<string> IToolCallFormat.Opens => [_open];

    IReadOnlyList<string> IToolCallFormat.Around => [_all, _allEnd];

    IReadOnlyList<string> IToolCallFormat.Marks => mark.Length > 0 ? [_all, _allEnd, _open, _close, _parameter, _parameterEnd, mark] : [_all, _allEnd, _open, _close, _parameter, _parameterEnd];

    // DeepSeek's template puts its tags together from the mark and their names.
    bool IToolCallFormat.IsOf(string template) => template.Contains(_all, StringComparison.Ordinal)
        || (mark.Length > 0 && template.Contains(mark, StringComparison.Ordinal) && template.Contains(all[mark.Length..] + ">", StringComparison.Ordinal));

    IReadOnlyList<ToolCall> IToolCallFormat.Read(CallText text, ToolSchemas tools)
    {
        text.Expect(_open);
        var called = text.Until("\"");
        text.Expect(">");
        var arguments = new JsonObject();
        text.Space();
        while (text.Take(_parameter))
        {
            var key = text.Until("\"");
            var rest = text.Until(">");
            var value = text.Until(_parameterEnd);
            if (text.IsGood)
            {
                arguments[key] = rest.Contains("string=\"true\"", StringComparison.Ordinal) ? value : tools.Argument(called, key, value);
            }

            text.Space();
        }

        text.Close(_close);
        return called.Length > 0 ? [TypedCalls.Of(called, arguments)] : [];
    }

    GrammarNode IToolCallFormat.Grammar(IReadOnlyList<ToolSchema> tools, int most)
    {
        var line = GrammarNode.Of("\n");
        return GrammarNode.Row(
            Tag(_all), line,
            JsonCalls.Several(
                GrammarRule.Of("a call", GrammarNode.Row(
                    Tag(_open),
                    GrammarNode.AnyOf([.. tools.Select(t => GrammarNode.Row(
                        GrammarNode.Of($"{t.Name}\">\n"),
                        t.Typed(key => GrammarNode.Row(Tag(_parameter), GrammarNode.Of(key + (saysStrings ? $"\" string=\"{(t.TypesOf(key) is ["string"] ? "true" : "false")}\">" : "\">"))), GrammarNode.Empty, _parameterEnd, line)))]),
                    Tag(_close))),
                line,
                most),
            line, Tag(_allEnd));
    }

    // The mark in a tag may be a token.
    private GrammarNode Tag(string tag)
    {
        var at = mark.Length == 0 ? -1 : tag.IndexOf(mark, StringComparison.Ordinal);
        return at < 0 ? GrammarNode.Mark(tag) : GrammarNode.Row(GrammarNode.Of(tag[..at]), GrammarNode.Mark(mark), GrammarNode.Of(tag[(at + mark.Length)..]));
    }
}
