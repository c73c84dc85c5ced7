using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;

namespace OpenWeights.Tune.Server.Protocols.OpenAi;

/// <summary>Reads and writes the protocol's JSON with code that is generated when the project is built.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull, AllowDuplicateProperties = false)]
[JsonSerializable(typeof(ChatRequest))]
[JsonSerializable(typeof(CompletionRequest))]
[JsonSerializable(typeof(EmbeddingRequest))]
[JsonSerializable(typeof(AdapterRequest))]
[JsonSerializable(typeof(ChatAnswer))]
[JsonSerializable(typeof(CompletionAnswer))]
[JsonSerializable(typeof(ModelList))]
[JsonSerializable(typeof(ModelEntry))]
[JsonSerializable(typeof(EmbeddingList))]
[JsonSerializable(typeof(float[]))]
[JsonSerializable(typeof(string))]
[JsonSerializable(typeof(ErrorAnswer))]
internal sealed partial class OpenAiJson : JsonSerializerContext
{

    internal static JsonTypeInfo<T> Of<T>() => (JsonTypeInfo<T>)Relaxed.Context.GetTypeInfo(typeof(T))!;

    // Text as it is where JSON allows it. A class of its own, since the generated part is initialised first then.
    private static class Relaxed
    {
        internal static readonly OpenAiJson Context = new(new JsonSerializerOptions(OpenAiJson.Default!.Options) { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });
    }
}
