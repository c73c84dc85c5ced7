namespace OpenWeights.Tune.Torch.Memory;

/// <summary>The system's memory, in whole pages.</summary>
internal interface IPageSource
{
    /// <summary>Reserves addresses, which take no memory until they are opened and used; 0 where the system refuses.</summary>
    long Reserve(long size);

    /// <summary>Makes reserved addresses usable; false where the system refuses.</summary>
    bool Open(long start, long size);

    /// <summary>Gives the memory of usable addresses back; they stay usable.</summary>
    bool GiveBack(long start, long size);
}
