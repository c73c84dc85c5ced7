using System.Text.Json.Serialization;

namespace OpenWeights.Tune.Server.Protocols.OpenAi;

/// <summary>An answer of /v1/chat/completions, or a chunk of one.</summary>
internal sealed record ChatAnswer(IReadOnlyList<ChatChoice> Choices, long Created, string Id, string Model, string SystemFingerprint, string Object)
{
    public UsageFields? Usage { get; init; }

    public TimingFields? Timings { get; init; }

    public PromptProgress? PromptProgress { get; init; }
}

/// <summary>One of an answer's choices.</summary>
internal sealed record ChatChoice(int Index)
{
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public string? FinishReason { get; init; }

    public ChatMessage? Message { get; init; }

    public ChatDelta? Delta { get; init; }

    public ChatLogProbs? Logprobs { get; init; }
}

/// <summary>A whole message.</summary>
internal sealed record ChatMessage
{
    public string Role { get; } = "assistant";

    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public string? Content { get; init; }

    public string? ReasoningContent { get; init; }

    public IReadOnlyList<ToolCall>? ToolCalls { get; init; }
}

/// <summary>More of a message.</summary>
[JsonDerivedType(typeof(FirstDelta))]
[JsonDerivedType(typeof(NextDelta))]
internal abstract record ChatDelta;

/// <summary>The beginning of a message.</summary>
internal sealed record FirstDelta : ChatDelta
{
    public string Role { get; } = "assistant";

    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public string? Content { get; }
}

/// <summary>More text, or calls of tools; nothing at the end.</summary>
internal sealed record NextDelta : ChatDelta
{
    public string? Content { get; init; }

    public string? ReasoningContent { get; init; }

    public IReadOnlyList<ToolCall>? ToolCalls { get; init; }
}

/// <summary>A call of a tool, or more of its arguments.</summary>
internal sealed record ToolCall(FunctionCall Function)
{
    public int? Index { get; init; }

    public string? Id { get; init; }

    public string? Type { get; init; }
}

/// <summary>The function of a call.</summary>
internal sealed record FunctionCall(string? Name, string Arguments);

/// <summary>Log-probabilities of a chat's answer.</summary>
internal sealed record ChatLogProbs(IReadOnlyList<TokenLogProb> Content);

/// <summary>A token with its log-probability.</summary>
internal sealed record TokenLogProb(int Id, string Token, IReadOnlyList<int> Bytes, float Logprob)
{
    public IReadOnlyList<TokenLogProb>? TopLogprobs { get; init; }
}

/// <summary>An answer of /v1/completions, or a chunk of one.</summary>
internal sealed record CompletionAnswer(IReadOnlyList<CompletionChoice> Choices, long Created, string Model, string SystemFingerprint, string Object, string Id)
{
    public PromptProgress? PromptProgress { get; init; }

    public UsageFields? Usage { get; init; }

    public TimingFields? Timings { get; init; }
}

/// <summary>One of a completion's choices.</summary>
internal sealed record CompletionChoice(string Text, int Index)
{
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public CompletionLogProbs? Logprobs { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public string? FinishReason { get; init; }
}

/// <summary>Log-probabilities of a completion: OpenAI's lists, and llama.cpp's list of tokens. A prompt's first token has none, which is null.</summary>
internal sealed record CompletionLogProbs(IReadOnlyList<string> Tokens, IReadOnlyList<float?> TokenLogprobs, IReadOnlyList<IReadOnlyDictionary<string, float>?> TopLogprobs, IReadOnlyList<int> TextOffset)
{
    public IReadOnlyList<TokenLogProb>? Content { get; init; }
}

/// <summary>Numbers of tokens.</summary>
internal sealed record UsageFields(int CompletionTokens, int PromptTokens, int TotalTokens)
{
    public PromptDetails? PromptTokensDetails { get; init; }

    public CompletionDetails? CompletionTokensDetails { get; init; }
}

/// <summary>Details of a prompt's tokens.</summary>
internal sealed record PromptDetails(int CachedTokens);

/// <summary>Details of an answer's tokens.</summary>
internal sealed record CompletionDetails(int ReasoningTokens);

/// <summary>How long an answer took, as llama.cpp has it.</summary>
internal sealed record TimingFields(int CacheN, int PromptN, double PromptMs, double PromptPerTokenMs, double PromptPerSecond, int PredictedN, double PredictedMs, double PredictedPerTokenMs, double PredictedPerSecond);

/// <summary>How much of a prompt is read, as llama.cpp has it: all of it, what was read for an earlier request, and what is read by now.</summary>
internal sealed record PromptProgress(int Total, int Cache, int Processed, double TimeMs);

/// <summary>The models.</summary>
internal sealed record ModelList(IReadOnlyList<ModelEntry> Data)
{
    public string Object { get; } = "list";
}

/// <summary>A model: the base, or an adapter on it.</summary>
internal sealed record ModelEntry(string Id, long Created, string Root, int MaxModelLen)
{
    public string Object { get; } = "model";

    public string OwnedBy { get; } = "openweights-tune";

    /// <summary>Name of the base model of an adapter.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public string? Parent { get; init; }

    public ModelMeta? Meta { get; init; }

    /// <summary>Where this server shows the report of the run that made the model.</summary>
    public string? Report { get; init; }
}

/// <summary>Numbers of a model, as llama.cpp has them.</summary>
internal sealed record ModelMeta(int NVocab, int NCtx, int NCtxTrain, int NEmbd, string Pooling);

/// <summary>Vectors.</summary>
internal sealed record EmbeddingList(IReadOnlyList<EmbeddingEntry> Data, string Model, EmbeddingUsage Usage)
{
    public string Object { get; } = "list";

    /// <summary>Which hidden states the vectors are: mean or last.</summary>
    public required string Pooling { get; init; }
}

/// <summary>A vector: numbers, or the base64 of little-endian float32.</summary>
internal sealed record EmbeddingEntry(object Embedding, int Index)
{
    public string Object { get; } = "embedding";
}

/// <summary>Numbers of tokens of embeddings.</summary>
internal sealed record EmbeddingUsage(int PromptTokens, int TotalTokens);

/// <summary>What went wrong, in OpenAI's shape.</summary>
internal sealed record ErrorAnswer(ErrorFields Error);

/// <summary>What went wrong.</summary>
internal sealed record ErrorFields(string Message, string Type)
{
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public string? Param { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public string? Code { get; init; }

    /// <summary>For a prompt that is too long, its number of tokens.</summary>
    public int? NPromptTokens { get; init; }

    /// <summary>For a prompt that is too long, the number of tokens of the context.</summary>
    public int? NCtx { get; init; }
}
