using System.Buffers.Binary;
using System.IO.MemoryMappedFiles;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;
using OpenWeights.Tune.Data.Files;

namespace OpenWeights.Tune.Data.Store;

/// <summary>Token rows in a file that is mapped into memory: the system holds what is being read, whatever the size of the file.</summary>
internal sealed unsafe class TokenStore
{
    private readonly SafeMemoryMappedViewHandle _view;
    private readonly byte* _start;
    private readonly long* _blocks;

    private TokenStore(SafeMemoryMappedViewHandle view, byte* start, long blocks, int count, StoreFacts facts)
    {
        _start = start;
        _blocks = (long*)(start + blocks);
        (_view, Count, Facts) = (view, count, facts);
    }

    /// <summary>Lets the mapping go with the last row that may be asked for.</summary>
    ~TokenStore() => _view.ReleasePointer();

    /// <summary>The number of rows.</summary>
    internal int Count { get; }

    /// <summary>What else the store knows.</summary>
    internal StoreFacts Facts { get; }

    /// <summary>Maps a store.</summary>
    /// <param name="file">The file; it is closed once nothing reads it any more.</param>
    /// <returns>The store, or null where the file is not whole.</returns>
    internal static TokenStore? Open(FileStream file)
    {
        var length = file.Length;
        if (length < TokenStoreWriter.Magic.Length + TokenStoreWriter.TrailerLength)
        {
            return null;
        }

        // The mapping keeps the file; the view's handle keeps the mapping.
        using var map = MemoryMappedFile.CreateFromFile(file, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: true);
        var view = map.CreateViewAccessor(0, length, MemoryMappedFileAccess.Read).SafeMemoryMappedViewHandle;
        byte* start = null;
        view.AcquirePointer(ref start);
        var trailer = new ReadOnlySpan<byte>(start + length - TokenStoreWriter.TrailerLength, TokenStoreWriter.TrailerLength);
        var index = BinaryPrimitives.ReadInt64LittleEndian(trailer);
        var count = BinaryPrimitives.ReadInt64LittleEndian(trailer[8..]);
        var facts = BinaryPrimitives.ReadInt64LittleEndian(trailer[16..]);
        var factsLength = BinaryPrimitives.ReadInt64LittleEndian(trailer[24..]);
        var isWhole = trailer[32..].SequenceEqual(TokenStoreWriter.Magic)
            && new ReadOnlySpan<byte>(start, 8).SequenceEqual(TokenStoreWriter.Magic)
            && index >= 8 && count is >= 0 and <= int.MaxValue && facts == index + (((count / TokenStoreWriter.BlockRows) + 1) * sizeof(long)) && factsLength is > 0 and <= int.MaxValue
            && facts + factsLength + TokenStoreWriter.TrailerLength == length;
        if (!isWhole)
        {
            view.ReleasePointer();
            view.Dispose();
            return null;
        }

        var known = JsonSerializer.Deserialize<StoreFacts>(new ReadOnlySpan<byte>(start + facts, (int)factsLength));
        return known is null ? null : new TokenStore(view, start, index, (int)count, known);
    }

    /// <summary>What the index says of a row.</summary>
    internal ref readonly StoredRow Entry(int row)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)row, (uint)Count);
        return ref ((StoredRow*)(_start + _blocks[row / TokenStoreWriter.BlockRows]))[row % TokenStoreWriter.BlockRows];
    }

    /// <summary>Where a row comes from, as messages write it.</summary>
    internal string Place(int row)
    {
        ref readonly var entry = ref Entry(row);
        var file = Facts.Files[entry.File];
        return new RowPlace(file.Path, entry.Number, file.Unit).ToString();
    }

    /// <summary>The tokens of a row.</summary>
    internal ReadOnlySpan<int> Ids(int row)
    {
        ref readonly var entry = ref Entry(row);
        return new ReadOnlySpan<int>(_start + entry.Offset, entry.Tokens);
    }

    /// <summary>The places in a row where it may be cut.</summary>
    internal ReadOnlySpan<int> TurnEnds(int row)
    {
        ref readonly var entry = ref Entry(row);
        return new ReadOnlySpan<int>(_start + entry.Offset + (4L * (entry.Tokens + LabelInts(entry))), entry.TurnEnds);
    }

    /// <summary>The number of tokens that are predicted in a part of a row.</summary>
    internal int Targets(int row, int start, int length)
    {
        ref readonly var entry = ref Entry(row);
        if (start == 0 && length == entry.Tokens)
        {
            return entry.Targets;
        }

        var labels = new int[length];
        Labels(row, start, labels);
        return labels.AsSpan(1).Length - labels.AsSpan(1).Count(TokenRow.Ignored);
    }

    /// <summary>A part of a row.</summary>
    internal TokenRow Row(int row, int start, int length)
    {
        ref readonly var entry = ref Entry(row);
        var labels = new int[length];
        Labels(row, start, labels);
        var made = new TokenRow(Ids(row).Slice(start, length).ToArray(), labels, Place(row)) { Role = entry.Role };
        GC.KeepAlive(this);
        return made;
    }

    /// <summary>The labels of a part of a row.</summary>
    internal void Labels(int row, int start, Span<int> labels)
    {
        ref readonly var entry = ref Entry(row);
        var stored = new ReadOnlySpan<int>(_start + entry.Offset + (4L * entry.Tokens), LabelInts(entry));
        if (entry.Ranges < 0)
        {
            stored.Slice(start, labels.Length).CopyTo(labels);
            return;
        }

        labels.Fill(TokenRow.Ignored);
        var ids = Ids(row);
        for (var i = 0; i < stored.Length; i += 2)
        {
            var (from, to) = (Math.Max(stored[i], start), Math.Min(stored[i + 1], start + labels.Length));
            if (from < to)
            {
                ids[from..to].CopyTo(labels[(from - start)..]);
            }
        }

        GC.KeepAlive(this);
    }

    private static int LabelInts(in StoredRow entry) => entry.Ranges < 0 ? entry.Tokens : 2 * entry.Ranges;
}
