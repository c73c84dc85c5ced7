using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>Prints JSON lines on stdout, without escaping non-ASCII characters.</summary>
internal static class JsonLines
{
    private static readonly JsonSerializerOptions s_options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, Converters = { new FiniteOrNull() } };

    // JSON cannot represent numbers that are not finite.
    private sealed class FiniteOrNull : JsonConverter<double>
    {
        public override double Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => reader.GetDouble();

        public override void Write(Utf8JsonWriter writer, double value, JsonSerializerOptions options)
        {
            if (double.IsFinite(value))
            {
                writer.WriteNumberValue(value);
            }
            else
            {
                writer.WriteNullValue();
            }
        }
    }

    internal static void Write<T>(T value) => Console.Out.WriteLine(Of(value));

    /// <summary>A value as a line of JSON.</summary>
    internal static string Of<T>(T value) => JsonSerializer.Serialize(value, s_options);
}
