using System.Text.Encodings.Web;
using System.Text.Json;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>JSON on stdout, one line for each thing, every character as itself.</summary>
internal static class JsonLines
{
    private static readonly JsonSerializerOptions s_options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    internal static void Write<T>(T value) => Console.Out.WriteLine(JsonSerializer.Serialize(value, s_options));
}
