namespace OpenWeights.Tune.Distributed.Engines.Mpi;

/// <summary>One collective operation, made of messages between two ranks each. MPI's thread starts it, and lets it advance until it is done.</summary>
internal abstract class MpiOperation(MpiGroup group)
{
    private MpiTransfers? _transfers;

    /// <summary>All ranks.</summary>
    protected MpiGroup Group => group;

    /// <summary>Its messages, once it has started.</summary>
    protected MpiTransfers Transfers => _transfers!;

    /// <summary>Whether it is complete.</summary>
    internal virtual bool IsDone => Transfers.IsEmpty;

    /// <summary>Begins.</summary>
    /// <param name="tag">Tag of its messages.</param>
    internal void Begin(int tag)
    {
        _transfers = new MpiTransfers(group.Mpi, tag);
        Start(tag);
    }

    /// <summary>Goes on. Returns whether something happened.</summary>
    internal virtual bool Advance() => Transfers.Advance();

    /// <summary>Frees what it needed.</summary>
    internal virtual void Free()
    {
    }

    /// <summary>Sends and receives what needs nothing else first.</summary>
    /// <param name="tag">Tag of its messages; the next one is its own too.</param>
    protected abstract void Start(int tag);
}

/// <summary>Which ranks there are.</summary>
/// <param name="Mpi">The library.</param>
/// <param name="Rank">This rank.</param>
/// <param name="Size">Number of ranks.</param>
internal sealed record MpiGroup(MpiLibrary Mpi, int Rank, int Size)
{
    /// <summary>The other ranks, each beginning with its own successor: all at once to rank 0 would be slow.</summary>
    internal IEnumerable<int> Others => Enumerable.Range(1, Size - 1).Select(i => (Rank + i) % Size);
}
