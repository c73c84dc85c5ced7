using System.Globalization;

namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>Limits of a <see cref="TextEngine"/>.</summary>
internal sealed record TextEngineOptions
{
    /// <summary>Name of the model, as the metrics have it; null for none.</summary>
    public string? Model { get; init; }

    /// <summary>Maximum number of texts that are generated at a time; the others wait.</summary>
    public int MaxRows { get; init; } = 16;

    /// <summary>Maximum number of waiting texts.</summary>
    public int MaxWaiting { get; init; } = 256;

    /// <summary>
    /// Maximum number of bytes of keys, values and other states of texts, of those that are generated and of those that are kept for texts with the same
    /// beginning. Null for a quarter of the memory that is free, but no more than <see cref="MaxRows"/> texts of the model's context length need.
    /// </summary>
    public long? MaxCacheBytes { get; init; }

    /// <summary>
    /// Maximum number of prompt tokens that are read between two steps. Fewer keep the pauses of texts that are generated short while a long prompt is read; more
    /// read prompts faster.
    /// </summary>
    public int PromptChunk { get; init; } = 128;

    /// <summary>Maximum length of prompt and answer, in tokens; null for the model's context length.</summary>
    public int? MaxPositions { get; init; }

    /// <summary>Throws if a limit is out of range.</summary>
    /// <exception cref="ArgumentOutOfRangeException">It is; the message names it and what is possible.</exception>
    internal void Require()
    {
        Check(MaxRows >= 1, MaxRows, nameof(MaxRows), "at least 1");
        Check(MaxWaiting >= 0, MaxWaiting, nameof(MaxWaiting), "0 or more");
        Check(MaxCacheBytes is null or >= 0, MaxCacheBytes, nameof(MaxCacheBytes), "0 or more, or null");
        Check(PromptChunk >= 1, PromptChunk, nameof(PromptChunk), "at least 1");
        Check(MaxPositions is null or >= 1, MaxPositions, nameof(MaxPositions), "at least 1, or null for the model's context length");
    }

    private static void Check(bool isRight, object? value, string name, string possible)
    {
        if (!isRight)
        {
            throw new ArgumentOutOfRangeException(name, value, string.Create(CultureInfo.InvariantCulture, $"{name} is {value}; it must be {possible}."));
        }
    }
}
