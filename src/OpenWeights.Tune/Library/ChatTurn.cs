using System.Text.Json.Nodes;

namespace OpenWeights.Tune;

/// <summary>A message of a chat.</summary>
/// <param name="Role">Who says it: user, assistant, system or tool.</param>
/// <param name="Content">What is said.</param>
public sealed record ChatTurn(string Role, string Content)
{
    /// <summary>A message of the user.</summary>
    /// <param name="content">What is said.</param>
    public static ChatTurn User(string content) => new("user", content);

    /// <summary>An answer of the model.</summary>
    /// <param name="content">What is said.</param>
    public static ChatTurn Assistant(string content) => new("assistant", content);

    /// <summary>A message that says how to answer, ahead of the others.</summary>
    /// <param name="content">What is said.</param>
    public static ChatTurn System(string content) => new("system", content);

    internal static JsonArray Messages(IEnumerable<ChatTurn> turns) => [.. turns.Select(static t => new JsonObject { ["role"] = t.Role, ["content"] = t.Content })];
}
