namespace OpenWeights.Tune.Torch;

/// <summary>
/// Thrown if torch cannot be used. The message says in one or two sentences what failed and what to do; the inner exception is the original
/// one.
/// </summary>
public sealed class TorchUnavailableException : Exception
{
    /// <summary>Creates an exception without a message.</summary>
    public TorchUnavailableException()
    {
    }

    /// <summary>Creates an exception with a message.</summary>
    /// <param name="message">What failed, and what to do.</param>
    public TorchUnavailableException(string message)
        : base(message)
    {
    }

    /// <summary>Creates an exception with a message and its cause.</summary>
    /// <param name="message">What failed, and what to do.</param>
    /// <param name="inner">The original exception.</param>
    public TorchUnavailableException(string message, Exception? inner)
        : base(message, inner)
    {
    }
}
