namespace OpenWeights.Formats.Hub;

/// <summary>The Hub has no such model, or does not open it to whoever asks.</summary>
/// <param name="message">What is asked for, and what to do.</param>
public sealed class HubRefusedException(string message) : UnauthorizedAccessException(message);
