namespace OpenWeights.Formats.Gguf;

/// <summary>A matrix that a GGUF file holds in blocks of few bits: the blocks as they are, rows in the checkpoint's order.</summary>
public sealed class GgufMatrix
{
    private readonly Action<long, Memory<byte>> _copy;

    /// <summary>Describes a matrix.</summary>
    /// <param name="type">Type of its blocks.</param>
    /// <param name="outFeatures">Number of rows.</param>
    /// <param name="inFeatures">Values of a row, in whole blocks.</param>
    /// <param name="copy">Copies rows from a given one on.</param>
    public GgufMatrix(GgufType type, long outFeatures, long inFeatures, Action<long, Memory<byte>> copy) =>
        (Type, OutFeatures, InFeatures, _copy) = (type, outFeatures, inFeatures, copy);

    /// <summary>Type of the blocks.</summary>
    public GgufType Type { get; }

    /// <summary>Number of rows.</summary>
    public long OutFeatures { get; }

    /// <summary>Values of a row.</summary>
    public long InFeatures { get; }

    /// <summary>Bytes of a row.</summary>
    public long RowBytes => Type.Bytes(InFeatures);

    /// <summary>Copies the blocks of rows.</summary>
    /// <param name="firstRow">The first row.</param>
    /// <param name="blocks">Filled with the blocks, as many as it takes.</param>
    public void Copy(long firstRow, Memory<byte> blocks) => _copy(firstRow, blocks);
}
