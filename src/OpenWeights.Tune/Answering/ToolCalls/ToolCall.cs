using System.Security.Cryptography;

namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>A call of a tool.</summary>
/// <param name="Name">The tool's name.</param>
/// <param name="Arguments">The arguments' JSON text.</param>
/// <param name="Id">The identifier that the model gave it; null if none.</param>
internal sealed record ToolCall(string Name, string Arguments, string? Id = null)
{
    /// <summary>A new identifier.</summary>
    /// <param name="prefix">What it begins with.</param>
    /// <param name="length">Number of letters and digits after that.</param>
    internal static string NewId(string prefix, int length) => prefix + RandomNumberGenerator.GetString("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", length);
}
