using System.Text.Json.Nodes;
using OpenWeights.Tune.Answering.ToolCalls;
using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Answering;

/// <summary>Grammars of answers that have to be calls of tools.</summary>
internal static class ToolCallGrammar
{
    // So that an answer ends.
    private const int MostCalls = 16;

    /// <summary>The calls that a format can write.</summary>
    /// <param name="format">The format.</param>
    /// <param name="tools">The tools: a list of functions with names and parameters.</param>
    /// <param name="function">The name of the tool that must be called; null for any.</param>
    /// <param name="inParallel">Whether there may be several calls.</param>
    /// <exception cref="GrammarException">No tool has the name, or the schema of a strict tool cannot be enforced.</exception>
    /// <remarks>Arguments of a tool that is not strict keep to its schema where that can be enforced, and are any object elsewhere.</remarks>
    public static Grammar Of(IToolCallFormat format, JsonNode? tools, string? function, bool inParallel)
    {
        ArgumentNullException.ThrowIfNull(format);
        var callable = ToolSchemas.Of(tools).All.Where(t => function is null || t.Name == function).ToList();
        return callable.Count > 0
            ? new Grammar(format.Grammar(callable, inParallel ? MostCalls : 1))
            : throw new GrammarException(function is null ? "there is no tool that could be called; give \"tools\" one." : $"there is no tool \"{function}\" that could be called; name one of \"tools\".");
    }
}
