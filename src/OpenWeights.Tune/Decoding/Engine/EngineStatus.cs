namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>What a <see cref="TextEngine"/> does at a moment, and what it did since it was created.</summary>
internal sealed record EngineStatus
{
    /// <summary>Number of texts that are generated.</summary>
    public int Running { get; init; }

    /// <summary>Number of texts that wait.</summary>
    public int Waiting { get; init; }

    /// <summary>Number of tokens whose states are held, of texts that are generated and of those that are kept.</summary>
    public long CachedTokens { get; init; }

    /// <summary>Number of bytes that the states of texts take which are generated.</summary>
    public long UsedBytes { get; init; }

    /// <summary>Number of bytes that states are kept in for texts with the same beginning; they are freed when texts need them.</summary>
    public long KeptBytes { get; init; }

    /// <summary>Maximum number of bytes of all states.</summary>
    public long MaxBytes { get; init; }

    /// <summary>Number of prompt tokens so far, of texts that began.</summary>
    public long PromptTokens { get; init; }

    /// <summary>Number of those whose states were held already.</summary>
    public long CachedPromptTokens { get; init; }

    /// <summary>Number of generated tokens so far.</summary>
    public long GeneratedTokens { get; init; }

    /// <summary>Number of steps so far in which texts got a next token.</summary>
    public long Steps { get; init; }

    /// <summary>Number of next tokens in all steps; divided by <see cref="Steps"/>, the mean number of texts in a step.</summary>
    public long Rows { get; init; }

    /// <summary>Number of texts that lost their states for lack of memory and were read again.</summary>
    public long Preemptions { get; init; }
}
