using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>gpt-oss: a message of the channel commentary to functions.name, which <see cref="AnswerReader"/> finds.</summary>
internal sealed class HarmonyFormat : IToolCallFormat
{
    /// <summary>What stands before the name of a tool.</summary>
    internal const string Functions = "functions.";

    public string Name => "harmony";

    IReadOnlyList<string> IToolCallFormat.Opens { get; } = [];

    IReadOnlyList<string> IToolCallFormat.Marks { get; } = [];

    bool IToolCallFormat.IsOf(string template) => template.Contains(ReasoningFormat.Channel, StringComparison.Ordinal) && template.Contains(Functions, StringComparison.Ordinal);

    IReadOnlyList<ToolCall> IToolCallFormat.Read(CallText text, ToolSchemas tools)
    {
        text.Refuse();
        return [];
    }

    // The models write one call and wait for its result.
    GrammarNode IToolCallFormat.Grammar(IReadOnlyList<ToolSchema> tools, int most) => GrammarNode.Row(
        GrammarNode.Mark(ReasoningFormat.Channel),
        GrammarNode.Of("commentary to=" + Functions),
        GrammarNode.AnyOf([.. tools.Select(static t => GrammarNode.Row(
            GrammarNode.Of(t.Name + " "), GrammarNode.Maybe(GrammarNode.Mark("<|constrain|>")), GrammarNode.Of("json"), GrammarNode.Mark(ReasoningFormat.BodyStart), t.Json()))]));
}
