using System.Text.Json;
using System.Text.Json.Serialization;
using OpenWeights.Tune.Server.Protocols.OpenAi;

namespace OpenWeights.Tune.Server.Protocols.LlamaCpp;

/// <summary>A request of llama.cpp's own /completion.</summary>
internal sealed class NativeRequest : SamplingFields
{
    public JsonElement? Prompt { get; init; }

    public int? NProbs { get; init; }

    public bool? ReturnTokens { get; init; }

    /// <summary>llama.cpp's name of n.</summary>
    public int? NCmpl { get; init; }

    /// <summary>Whether n_probs are those of the draw, after top-k, top-p and min-p.</summary>
    public bool? PostSamplingProbs { get; init; }

    /// <summary>The fields of the answer that are wanted, with / before those within others; empty for all.</summary>
    public string[]? ResponseFields { get; init; }
}

/// <summary>An answer of /completion, or a piece of one.</summary>
internal sealed record NativeAnswer(int Index, string Content, IReadOnlyList<int> Tokens, bool Stop)
{
    public string? Model { get; init; }

    public string? Prompt { get; init; }

    /// <summary>eos, limit or word.</summary>
    public string? StopType { get; init; }

    public string? StoppingWord { get; init; }

    public bool? Truncated { get; init; }

    public bool? HasNewLine { get; init; }

    public int? TokensPredicted { get; init; }

    public int? TokensEvaluated { get; init; }

    public int? TokensCached { get; init; }

    public IReadOnlyList<NativeToken>? CompletionProbabilities { get; init; }

    public NativeSettings? GenerationSettings { get; init; }

    public PromptProgress? PromptProgress { get; init; }

    public TimingFields? Timings { get; init; }
}

/// <summary>A token with its log-probability, or the probability of the draw.</summary>
internal sealed record NativeToken(int Id, string Token, IReadOnlyList<int> Bytes)
{
    public float? Logprob { get; init; }

    public IReadOnlyList<NativeToken>? TopLogprobs { get; init; }

    public float? Prob { get; init; }

    public IReadOnlyList<NativeToken>? TopProbs { get; init; }
}

/// <summary>What is added to a token's logit; null for a token that cannot come.</summary>
internal sealed record NativeBias(int Token)
{
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public float? Bias { get; init; }
}

/// <summary>Settings that an answer was generated with.</summary>
internal sealed record NativeSettings(long Seed, double Temperature, int TopK, double TopP, double MinP, double RepeatPenalty, double PresencePenalty, double FrequencyPenalty, int NPredict, int MaxTokens, IReadOnlyList<string> Stop, bool IgnoreEos, bool Stream, int NProbs)
{
    public required IReadOnlyList<NativeBias> LogitBias { get; init; }
}
