using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Extensions;

/// <summary>An answer to judge.</summary>
public sealed record JudgedAnswer
{
    /// <summary>Text of the prompt; of a chat its last message.</summary>
    public required string Prompt { get; init; }

    /// <summary>Text of the answer, without special tokens and without what a model reasons before it.</summary>
    public required string Answer { get; init; }

    /// <summary>Text of the whole answer, without special tokens.</summary>
    public required string Completion { get; init; }

    /// <summary>The reference answer; null if the row has none.</summary>
    public string? Expected { get; init; }

    /// <summary>The prompt's row, as in the data file.</summary>
    public required JsonObject Row { get; init; }

    /// <summary>Token ids of the prompt.</summary>
    public required IReadOnlyList<int> PromptIds { get; init; }

    /// <summary>Token ids of the answer, with its end token.</summary>
    public required IReadOnlyList<int> AnswerIds { get; init; }

    /// <summary>Whether the answer reached the maximum length.</summary>
    public required bool IsTruncated { get; init; }

    /// <summary>File and line of the prompt's row.</summary>
    public required string Place { get; init; }
}
