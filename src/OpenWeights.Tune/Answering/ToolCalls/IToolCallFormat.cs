using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>How the models of a chat template write calls of tools.</summary>
internal interface IToolCallFormat
{
    /// <summary>A short name.</summary>
    string Name { get; }

    /// <summary>Texts that begin a call wherever they stand in an answer.</summary>
    internal IReadOnlyList<string> Opens { get; }

    /// <summary>Texts that begin a call where an answer begins with them.</summary>
    internal IReadOnlyList<string> OpensAnswers => [];

    /// <summary>Texts around calls, which are no part of the answer.</summary>
    internal IReadOnlyList<string> Around => [];

    /// <summary>All texts that can be special tokens.</summary>
    internal IReadOnlyList<string> Marks { get; }

    /// <summary>Whether a chat template has it.</summary>
    internal bool IsOf(string template);

    /// <summary>Reads what begins with one of <see cref="Opens"/>.</summary>
    /// <param name="text">The text, at that place; it says whether more of it is needed, or whether it is no call.</param>
    /// <param name="tools">The tools.</param>
    /// <returns>The calls, if the text is complete and well-formed.</returns>
    internal IReadOnlyList<ToolCall> Read(CallText text, ToolSchemas tools);

    /// <summary>What calls of tools can be written as.</summary>
    /// <param name="tools">The tools that may be called.</param>
    /// <param name="most">The largest number of calls.</param>
    internal GrammarNode Grammar(IReadOnlyList<ToolSchema> tools, int most);

    /// <summary>A new identifier of a call, in a form that the template takes.</summary>
    internal string NewId() => ToolCall.NewId("call_", 24);
}
