using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>Llama 3: an answer that is <c>{"name": ..., "parameters": {...}}</c>, with or without <c>&lt;|python_tag|&gt;</c> before it.</summary>
internal sealed class LlamaFormat : IToolCallFormat
{
    private const string Tag = "<|python_tag|>";

    public string Name => "llama-3";

    IReadOnlyList<string> IToolCallFormat.Opens { get; } = [Tag];

    IReadOnlyList<string> IToolCallFormat.OpensAnswers { get; } = ["{"];

    IReadOnlyList<string> IToolCallFormat.Marks { get; } = [Tag];

    bool IToolCallFormat.IsOf(string template) => template.Contains(Tag, StringComparison.Ordinal) || template.Contains("\"parameters\": dictionary of argument name", StringComparison.Ordinal);

    IReadOnlyList<ToolCall> IToolCallFormat.Read(CallText text, ToolSchemas tools)
    {
        var calls = new List<ToolCall>();
        _ = text.Take(Tag);
        do
        {
            text.Space();

            // A call is known by its first key, so that other JSON is not held back.
            RequireKey(text);
            calls.AddRange(JsonCalls.Read(text));
            text.Space();
        }
        while (text.Take(";") || (text.IsGood && text.Sees("{")));

        return calls;
    }

    GrammarNode IToolCallFormat.Grammar(IReadOnlyList<ToolSchema> tools, int most) => JsonCalls.Several(JsonCalls.Grammar(tools, arguments: "parameters"), GrammarNode.Of("; "), most);

    private static void RequireKey(CallText text)
    {
        var probe = text.Copy();
        probe.Expect("{");
        probe.Space();
        probe.Expect("\"");
        var isKnown = false;
        foreach (var key in new[] { "name\"", "type\"", "function\"", "id\"" })
        {
            var one = probe.Copy();
            isKnown |= one.Take(key) || one.IsCut;
        }

        if (probe.IsWrong || (probe.IsGood && !isKnown))
        {
            text.Refuse();
        }
    }
}
