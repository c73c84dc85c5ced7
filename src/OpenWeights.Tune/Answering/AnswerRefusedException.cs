namespace OpenWeights.Tune.Answering;

/// <summary>A request that cannot be answered as it stands; the message says what is wrong with it.</summary>
internal sealed class AnswerRefusedException : Exception
{
    /// <summary>Creates the exception.</summary>
    /// <param name="kind">What is wrong.</param>
    /// <param name="message">One sentence: what, and what to do.</param>
    /// <param name="parameter">The parameter of the request that is wrong; null if none alone is.</param>
    public AnswerRefusedException(RefusalKind kind, string message, string? parameter = null)
        : base(message) => (Kind, Parameter) = (kind, parameter);

    /// <summary>What is wrong.</summary>
    public RefusalKind Kind { get; }

    /// <summary>The parameter of the request that is wrong, in the words of OpenAI's protocol; null if none alone is.</summary>
    public string? Parameter { get; }

    /// <summary>For <see cref="RefusalKind.TooLong"/>, the number of tokens of the prompt.</summary>
    public int PromptTokens { get; init; }

    /// <summary>For <see cref="RefusalKind.TooLong"/>, the number of tokens of the context.</summary>
    public int ContextTokens { get; init; }
}

/// <summary>What is wrong with a request.</summary>
internal enum RefusalKind
{
    /// <summary>A value of it.</summary>
    Invalid,

    /// <summary>No model has the name.</summary>
    NoSuchModel,

    /// <summary>The prompt is longer than the context.</summary>
    TooLong,
}
