namespace OpenWeights.Tune.Distributed;

/// <summary>A rank of a run died, hangs, or disagrees with the others. The message names rank, host and cause.</summary>
/// <param name="message">One sentence.</param>
/// <param name="inner">The cause, if an exception.</param>
internal sealed class RankFailedException(string message, Exception? inner = null) : Exception(message, inner);
