namespace OpenWeights.Formats.Hub;

/// <summary>The server has no time now.</summary>
internal sealed class HubBusyException(string message, TimeSpan? retryAfter) : IOException(message)
{
    /// <summary>How long it asks to wait; null where it does not say.</summary>
    public TimeSpan? RetryAfter { get; } = retryAfter;
}
