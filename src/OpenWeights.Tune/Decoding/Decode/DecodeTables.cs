namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>Where the keys and values of the rows of a step are: the blocks of each row's text, in order.</summary>
/// <param name="rows">Maximum number of rows.</param>
/// <param name="blockTokens">Number of tokens of a block.</param>
/// <param name="layers">Where a layer is in a block, by index.</param>
internal sealed class DecodeTables(int rows, int blockTokens, IReadOnlyList<DecodeLayerPlace> layers)
{
    private readonly IReadOnlyList<nint>[] _blocks = new IReadOnlyList<nint>[rows];
    private readonly int[] _lengths = new int[rows];

    /// <summary>Number of rows.</summary>
    internal int Count { get; private set; }

    /// <summary>Number of tokens of a block.</summary>
    internal int BlockTokens => blockTokens;

    /// <summary>The largest number of earlier tokens of a row.</summary>
    internal int Longest { get; private set; }

    /// <summary>Removes all rows.</summary>
    internal void Clear() => (Count, Longest) = (0, 0);

    /// <summary>Adds a row.</summary>
    /// <param name="blocks">Addresses of the text's blocks, with room for one more token.</param>
    /// <param name="length">Number of its earlier tokens.</param>
    internal void Add(IReadOnlyList<nint> blocks, int length)
    {
        (_blocks[Count], _lengths[Count]) = (blocks, length);
        Count++;
        Longest = Math.Max(Longest, length);
    }

    /// <summary>Where a layer is in each block.</summary>
    internal DecodeLayerPlace Layer(int layer) => layers[layer];

    /// <summary>Number of a row's earlier tokens.</summary>
    internal int Length(nint row) => _lengths[row];

    /// <summary>Address of the block of a row's token.</summary>
    internal nint Block(nint row, nint token) => _blocks[row][(int)(token / blockTokens)];
}

/// <summary>Where the keys and values of a layer are in a block: those of a head are contiguous, and head follows head.</summary>
/// <param name="Keys">Offset of the keys in bytes.</param>
/// <param name="Values">Offset of the values in bytes.</param>
internal readonly record struct DecodeLayerPlace(nint Keys, nint Values);
