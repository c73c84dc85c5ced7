using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>Calls whose arguments are written one by one, strings without quotes.</summary>
internal static class TypedCalls
{
    private static readonly JsonSerializerOptions s_plain = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>A call of arguments.</summary>
    internal static ToolCall Of(string name, JsonObject arguments) => new(name, arguments.ToJsonString(s_plain));

    /// <summary>A text without the line ends that a template puts around it.</summary>
    internal static string WithoutLines(string text)
    {
        text = text.StartsWith('\n') ? text[1..] : text;
        return text.EndsWith('\n') ? text[..^1] : text;
    }
}
