namespace OpenWeights.Tune.Distributed.Channel;

/// <summary>
/// Texts and signs of life between rank 0, which listens, and all others, which connect to it. It has threads of its own, since those of
/// the pool may all be computing.
/// </summary>
internal abstract class RankChannel(RankLimits limits, RankActivity activity) : IRankChannel
{
    private readonly CancellationTokenSource _failed = new();
    private readonly Lock _gate = new();
    private string? _failure;
    private long _lastTick = Environment.TickCount64;

    /// <inheritdoc/>
    public IReadOnlyList<string> Hosts { get; protected set; } = [];

    /// <inheritdoc/>
    public CancellationToken Failed => _failed.Token;

    /// <inheritdoc/>
    public string? Failure => Volatile.Read(ref _failure);

    /// <summary>This rank.</summary>
    internal abstract int Rank { get; }

    /// <inheritdoc/>
    public RankActivity Activity => activity;

    /// <summary>How long ranks wait.</summary>
    protected RankLimits Limits => limits;

    /// <summary>Whether this rank is done.</summary>
    internal bool IsLeaving { get; private protected set; }

    /// <inheritdoc/>
    public IReadOnlyList<string> Exchange(string text) => Exchange(text, isPatient: false);

    /// <inheritdoc/>
    public IReadOnlyList<string> ExchangePatiently(string text) => Exchange(text, isPatient: true);

    /// <inheritdoc/>
    public void Fail(string cause) => End($"{Name(Rank)} failed: {cause}");

    /// <summary>Ends all ranks with a sentence.</summary>
    internal abstract void End(string sentence);

    /// <summary>Says that an operation did not end in time, and throws with the rank that held it up.</summary>
    /// <param name="number">The operation's number.</param>
    internal abstract void ReportStuck(long number);

    /// <summary>Throws if a rank failed.</summary>
    internal void ThrowIfFailed()
    {
        if (Failure is { } failure)
        {
            throw new RankFailedException(failure);
        }
    }

    /// <summary>Says that this rank is done, and begins nothing any more.</summary>
    internal abstract void Leave();

    /// <inheritdoc/>
    public abstract void Dispose();

    private protected abstract IReadOnlyList<string> Exchange(long number, string text, bool isPatient);

    private IReadOnlyList<string> Exchange(string text, bool isPatient)
    {
        ThrowIfFailed();
        var number = activity.Begin("exchange of texts");
        using var waiting = activity.Wait(number);
        return Exchange(number, text, isPatient);
    }

    /// <summary>Held while others are told of a failure, so that no connection is closed meanwhile.</summary>
    private protected Lock Telling { get; } = new();

    /// <summary>Waits, for a few seconds at most, until what is being told to others has been sent.</summary>
    private protected void FinishTelling()
    {
        if (Telling.TryEnter(TimeSpan.FromSeconds(5)))
        {
            Telling.Exit();
        }
    }

    /// <summary>Notes the first failure. Returns whether this was the first.</summary>
    private protected bool SetFailure(string sentence)
    {
        lock (_gate)
        {
            if (_failure is not null)
            {
                return false;
            }

            Volatile.Write(ref _failure, sentence);
        }

        // What is registered at the token runs here, and may take its time.
        new Thread(_failed.Cancel) { IsBackground = true, Name = "rank failed" }.Start();
        return true;
    }

    /// <summary>
    /// Whether this process itself stood still since the last call (the machine slept, or all ranks were suspended): then the others'
    /// silence means nothing.
    /// </summary>
    private protected bool StoodStill()
    {
        var now = Environment.TickCount64;
        var still = now - _lastTick > 3 * limits.Heartbeat.TotalMilliseconds;
        _lastTick = now;
        return still;
    }

    internal string Name(int rank) => rank < Hosts.Count ? $"rank {rank} ({Hosts[rank]})" : $"rank {rank}";

    private protected static void Start(string name, Action work) => new Thread(() => work()) { IsBackground = true, Name = name }.Start();
}
