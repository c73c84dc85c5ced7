namespace OpenWeights.Tune.Torch;

/// <summary>Torch cannot be used here. The message is one sentence or two: what failed, and what to do; what was thrown first is the inner exception.</summary>
public sealed class TorchUnavailableException : Exception
{
    /// <summary>Creates one without a message.</summary>
    public TorchUnavailableException()
    {
    }

    /// <summary>Creates one.</summary>
    /// <param name="message">What failed, and what to do.</param>
    public TorchUnavailableException(string message)
        : base(message)
    {
    }

    /// <summary>Creates one.</summary>
    /// <param name="message">What failed, and what to do.</param>
    /// <param name="inner">What was thrown first.</param>
    public TorchUnavailableException(string message, Exception? inner)
        : base(message, inner)
    {
    }
}
