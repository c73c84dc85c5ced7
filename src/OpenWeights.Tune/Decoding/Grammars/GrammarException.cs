namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>A grammar, a JSON schema or a pattern is invalid, or has something that cannot be enforced; the message is a sentence that names it.</summary>
internal sealed class GrammarException : Exception
{
    /// <summary>Creates the exception.</summary>
    public GrammarException()
    {
    }

    /// <summary>Creates the exception.</summary>
    /// <param name="message">A sentence.</param>
    public GrammarException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the exception.</summary>
    /// <param name="message">A sentence.</param>
    /// <param name="innerException">The cause.</param>
    public GrammarException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}
