using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;
using OpenWeights.Tune.Server.Protocols.OpenAi;

namespace OpenWeights.Tune.Server.Protocols.LlamaCpp;

/// <summary>Reads and writes the JSON of llama.cpp's endpoints with code that is generated when the project is built.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(TokenizeRequest))]
[JsonSerializable(typeof(DetokenizeRequest))]
[JsonSerializable(typeof(TemplateRequest))]
[JsonSerializable(typeof(NativeRequest))]
[JsonSerializable(typeof(TokenList))]
[JsonSerializable(typeof(PieceList))]
[JsonSerializable(typeof(ContentAnswer))]
[JsonSerializable(typeof(PromptAnswer))]
[JsonSerializable(typeof(IReadOnlyList<AdapterEntry>))]
[JsonSerializable(typeof(NativeAnswer))]
[JsonSerializable(typeof(JsonNode))]
[JsonSerializable(typeof(IReadOnlyList<JsonNode>))]
[JsonSerializable(typeof(int[]))]
[JsonSerializable(typeof(string))]
internal sealed partial class LlamaJson : JsonSerializerContext
{

    internal static JsonTypeInfo<T> Of<T>() => (JsonTypeInfo<T>)Relaxed.Context.GetTypeInfo(typeof(T))!;

    // Text as it is where JSON allows it. A class of its own, since the generated part is initialised first then.
    private static class Relaxed
    {
        internal static readonly LlamaJson Context = new(new JsonSerializerOptions(LlamaJson.Default!.Options) { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });
    }

    internal static Task<T> ReadAsync<T>(HttpContext context)
        where T : class => JsonBody.ReadAsync(context, Of<T>());

    internal static Task WriteAsync<T>(HttpContext context, T answer) => JsonBody.WriteAsync(context, answer, Of<T>());
}

/// <summary>A request of /tokenize: llama.cpp's content, or vLLM's prompt or messages.</summary>
internal sealed class TokenizeRequest
{
    public string? Model { get; init; }

    /// <summary>A text, or texts and tokens mixed.</summary>
    public JsonElement? Content { get; init; }

    public bool? AddSpecial { get; init; }

    public bool? ParseSpecial { get; init; }

    public bool? WithPieces { get; init; }

    public string? Prompt { get; init; }

    public JsonElement? Messages { get; init; }

    public bool? AddSpecialTokens { get; init; }
}

/// <summary>A request of /detokenize.</summary>
internal sealed class DetokenizeRequest
{
    public string? Model { get; init; }

    public int[]? Tokens { get; init; }
}

/// <summary>A request of /apply-template.</summary>
internal sealed class TemplateRequest
{
    public string? Model { get; init; }

    public JsonElement? Messages { get; init; }

    public JsonElement? Tools { get; init; }

    public JsonElement? ChatTemplateKwargs { get; init; }

    public string? ReasoningEffort { get; init; }

    public bool? AddGenerationPrompt { get; init; }
}

/// <summary>Tokens.</summary>
internal sealed record TokenList(IReadOnlyList<int> Tokens)
{
    /// <summary>vLLM's number of tokens.</summary>
    public int? Count { get; init; }

    /// <summary>vLLM's number of tokens of the context.</summary>
    public int? MaxModelLen { get; init; }
}

/// <summary>Tokens with their texts.</summary>
internal sealed record PieceList(IReadOnlyList<TokenPiece> Tokens);

/// <summary>A token with its text; where that is no text by itself, its bytes.</summary>
internal sealed record TokenPiece(int Id, object Piece);

/// <summary>A text.</summary>
internal sealed record ContentAnswer(string Content)
{
    /// <summary>The same in vLLM's word.</summary>
    public string Prompt => Content;
}

/// <summary>An adapter: its number, its name (a path of this machine is nobody's business) and its scale where a request says nothing.</summary>
internal sealed record AdapterEntry(int Id, string Path, double Scale);

/// <summary>A prompt.</summary>
internal sealed record PromptAnswer(string Prompt);
