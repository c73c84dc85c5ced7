using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Server.Protocols.OpenAi;

/// <summary>Fields that chats and completions share: OpenAI's, and those that llama.cpp and vLLM add to them.</summary>
internal abstract class SamplingFields
{
    public string? Model { get; init; }

    public bool? Stream { get; init; }

    public StreamOptions? StreamOptions { get; init; }

    public int? MaxTokens { get; init; }

    /// <summary>llama.cpp's name of max_tokens; -1 for no limit.</summary>
    public int? NPredict { get; init; }

    public double? Temperature { get; init; }

    public double? TopP { get; init; }

    public int? TopK { get; init; }

    public double? MinP { get; init; }

    public int? N { get; init; }

    public JsonElement? Stop { get; init; }

    public long? Seed { get; init; }

    public double? PresencePenalty { get; init; }

    public double? FrequencyPenalty { get; init; }

    public double? RepetitionPenalty { get; init; }

    /// <summary>llama.cpp's name of repetition_penalty.</summary>
    public double? RepeatPenalty { get; init; }

    public JsonElement? LogitBias { get; init; }

    public bool? IgnoreEos { get; init; }

    /// <summary>Whether a stream tells how much of the prompt is read, as llama.cpp has it.</summary>
    public bool? ReturnProgress { get; init; }

    /// <summary>Whether every piece of a stream has the timings up to there, as llama.cpp has it.</summary>
    public bool? TimingsPerToken { get; init; }

    /// <summary>The adapter that answers, as llama.cpp has it: numbers of /lora-adapters with their scales, of which those left out are 0.</summary>
    public IReadOnlyList<AdapterScale>? Lora { get; init; }

    public ResponseFormat? ResponseFormat { get; init; }

    /// <summary>llama.cpp's short form of a response_format.</summary>
    public JsonNode? JsonSchema { get; init; }

    /// <summary>A grammar in llama.cpp's GBNF.</summary>
    public string? Grammar { get; init; }
}

/// <summary>How strongly an adapter takes part.</summary>
internal sealed class AdapterScale
{
    public int? Id { get; init; }

    public double? Scale { get; init; }
}

/// <summary>What a stream has besides the answer.</summary>
internal sealed class StreamOptions
{
    public bool? IncludeUsage { get; init; }
}

/// <summary>What an answer must look like.</summary>
internal sealed class ResponseFormat
{
    public string? Type { get; init; }

    /// <summary>llama.cpp's schema of a json_object.</summary>
    public JsonNode? Schema { get; init; }

    public NamedSchema? JsonSchema { get; init; }
}

/// <summary>A schema with a name.</summary>
internal sealed class NamedSchema
{
    public string? Name { get; init; }

    public JsonNode? Schema { get; init; }

    public bool? Strict { get; init; }
}

/// <summary>A request of /v1/chat/completions.</summary>
internal sealed class ChatRequest : SamplingFields
{
    public JsonElement? Messages { get; init; }

    public int? MaxCompletionTokens { get; init; }

    public bool? Logprobs { get; init; }

    public int? TopLogprobs { get; init; }

    public JsonElement? Tools { get; init; }

    public JsonElement? ToolChoice { get; init; }

    public bool? ParallelToolCalls { get; init; }

    public JsonElement? ChatTemplateKwargs { get; init; }

    public string? ReasoningEffort { get; init; }

    /// <summary>OpenAI's former name of tools.</summary>
    public JsonElement? Functions { get; init; }

    public string[]? Modalities { get; init; }
}

/// <summary>A request of /v1/completions.</summary>
internal sealed class CompletionRequest : SamplingFields
{
    public JsonElement? Prompt { get; init; }

    public int? Logprobs { get; init; }

    public bool? Echo { get; init; }

    public string? Suffix { get; init; }

    public int? BestOf { get; init; }
}

/// <summary>A request of /v1/embeddings.</summary>
internal sealed class EmbeddingRequest
{
    public string? Model { get; init; }

    public JsonElement? Input { get; init; }

    public string? EncodingFormat { get; init; }

    public int? Dimensions { get; init; }
}

/// <summary>A request of /v1/load_lora_adapter or /v1/unload_lora_adapter.</summary>
internal sealed class AdapterRequest
{
    public string? LoraName { get; init; }

    public string? LoraPath { get; init; }
}
