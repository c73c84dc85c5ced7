namespace OpenWeights.Tune.Distributed;

/// <summary>
/// What ranks tell each other besides tensors: short texts, and that they are alive. It carries heartbeats, and ends all ranks within a minute
/// where one dies, hangs or fails.
/// </summary>
internal interface IRankChannel : IDisposable
{
    /// <summary>Names of the hosts of all ranks, in the order of ranks.</summary>
    IReadOnlyList<string> Hosts { get; }

    /// <summary>What this rank does, which the others are told; null if nobody is.</summary>
    RankActivity? Activity => null;

    /// <summary>Gives every rank the texts of all ranks, in the order of ranks. All ranks call it in the same order.</summary>
    /// <param name="text">This rank's text, at most a few KiB.</param>
    /// <exception cref="RankFailedException">Another rank failed, or did not take part in time.</exception>
    IReadOnlyList<string> Exchange(string text);

    /// <summary>The same where ranks may come to it as much later as they need, as long as they get on.</summary>
    /// <param name="text">This rank's text, at most a few KiB.</param>
    /// <exception cref="RankFailedException">Another rank failed, or is stuck.</exception>
    IReadOnlyList<string> ExchangePatiently(string text) => Exchange(text);

    /// <summary>Tells all ranks that this one fails, so that they end with the same sentence.</summary>
    /// <param name="cause">One sentence.</param>
    void Fail(string cause);

    /// <summary>Cancelled when another rank failed; then <see cref="Failure"/> is set.</summary>
    CancellationToken Failed { get; }

    /// <summary>One sentence that names rank, host and cause; null while no rank failed.</summary>
    string? Failure { get; }
}
