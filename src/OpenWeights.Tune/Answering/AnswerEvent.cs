namespace OpenWeights.Tune.Answering;

/// <summary>
/// What happens while an answer is generated: <see cref="AnswerProgress"/> where it was asked for, any number of <see cref="AnswerDelta"/>, then one
/// <see cref="AnswerFinished"/>.
/// </summary>
internal abstract record AnswerEvent;

/// <summary>More of the prompt is read.</summary>
/// <param name="Prompt">Tokens of the prompt.</param>
/// <param name="Cached">Tokens of it that were computed for an earlier text.</param>
/// <param name="Read">Tokens of it that are read by now.</param>
/// <param name="Seconds">How long ago the answer was asked for.</param>
internal sealed record AnswerProgress(int Prompt, int Cached, int Read, double Seconds) : AnswerEvent;

/// <summary>More of the answer.</summary>
/// <param name="Piece">The piece; its text may be empty where only tokens are told.</param>
/// <param name="Tokens">Tokens whose text has been given by now and that were in no delta before.</param>
internal sealed record AnswerDelta(AnswerPiece Piece, IReadOnlyList<AnswerToken> Tokens) : AnswerEvent
{
    /// <summary>Numbers of tokens up to here, and how long they took; null where that was not asked for.</summary>
    public (AnswerUsage Usage, AnswerTimings Timings)? SoFar { get; init; }
}

/// <summary>The end of an answer.</summary>
/// <param name="FinishReason">Why it ended.</param>
/// <param name="Usage">Numbers of tokens.</param>
/// <param name="Timings">How long it took.</param>
internal sealed record AnswerFinished(FinishReason FinishReason, AnswerUsage Usage, AnswerTimings Timings) : AnswerEvent
{
    /// <summary>The stop text that ended the answer; null if none did.</summary>
    public string? Stop { get; init; }
}

/// <summary>Why an answer ended.</summary>
internal enum FinishReason
{
    /// <summary>The model ended it, or a stop text was found.</summary>
    Stop,

    /// <summary>It has as many tokens as are allowed.</summary>
    Length,

    /// <summary>The model calls tools.</summary>
    ToolCalls,
}

/// <summary>A generated token.</summary>
/// <param name="Chance">The token.</param>
/// <param name="Alternatives">The likeliest tokens at its place, as many as were asked for, likeliest first.</param>
internal sealed record AnswerToken(TokenText Chance, IReadOnlyList<TokenText> Alternatives);

/// <summary>A token with its text and how likely it is.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Text">Its text; where it has a part of a character, that part is U+FFFD.</param>
/// <param name="Bytes">Its bytes in UTF-8.</param>
/// <param name="LogProb">Its log-probability; 0 where none was asked for.</param>
internal sealed record TokenText(int Id, string Text, ReadOnlyMemory<byte> Bytes, float LogProb);

/// <summary>Numbers of tokens of an answer.</summary>
/// <param name="Prompt">Tokens of the prompt.</param>
/// <param name="Completion">Tokens that were generated.</param>
/// <param name="Cached">Tokens of the prompt that were computed for an earlier text.</param>
/// <param name="Reasoning">Generated tokens that are reasoning.</param>
internal sealed record AnswerUsage(int Prompt, int Completion, int Cached, int Reasoning);

/// <summary>How long an answer took.</summary>
/// <param name="PromptSeconds">Until the first token, with the time that the request waited.</param>
/// <param name="GenerationSeconds">From the first token to the last.</param>
internal sealed record AnswerTimings(double PromptSeconds, double GenerationSeconds);
