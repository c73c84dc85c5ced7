namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>An engine takes no further text at the moment.</summary>
internal sealed class EngineBusyException : Exception
{
    /// <summary>Creates the exception.</summary>
    public EngineBusyException()
        : this("the engine takes no further text at the moment; try again later.")
    {
    }

    /// <summary>Creates the exception.</summary>
    /// <param name="message">The message.</param>
    public EngineBusyException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the exception.</summary>
    /// <param name="message">The message.</param>
    /// <param name="innerException">The cause.</param>
    public EngineBusyException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>Creates the exception.</summary>
    /// <param name="message">The message.</param>
    /// <param name="retryAfter">After what time a place is likely to be free.</param>
    /// <param name="isDraining">Whether the engine finishes its texts and takes no more.</param>
    internal EngineBusyException(string message, TimeSpan retryAfter, bool isDraining)
        : base(message) => (RetryAfter, IsDraining) = (retryAfter, isDraining);

    /// <summary>After what time a place is likely to be free.</summary>
    public TimeSpan RetryAfter { get; } = TimeSpan.FromSeconds(1);

    /// <summary>Whether the engine finishes its texts and takes no more.</summary>
    public bool IsDraining { get; }
}
