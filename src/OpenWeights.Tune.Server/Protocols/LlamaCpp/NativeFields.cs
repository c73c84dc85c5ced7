using System.Text.Json;
using OpenWeights.Tune.Server.Protocols.OpenAi;

namespace OpenWeights.Tune.Server.Protocols.LlamaCpp;

/// <summary>A request of llama.cpp's own /completion.</summary>
internal sealed class NativeRequest : SamplingFields
{
    public JsonElement? Prompt { get; init; }

    public int? NProbs { get; init; }

    public bool? ReturnTokens { get; init; }
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

    public IReadOnlyList<TokenLogProb>? CompletionProbabilities { get; init; }

    public NativeSettings? GenerationSettings { get; init; }

    public TimingFields? Timings { get; init; }
}

/// <summary>Settings that an answer was generated with.</summary>
internal sealed record NativeSettings(long Seed, double Temperature, int TopK, double TopP, double MinP, double RepeatPenalty, double PresencePenalty, double FrequencyPenalty, int NPredict, int MaxTokens, IReadOnlyList<string> Stop, bool IgnoreEos, bool Stream, int NProbs);
