using System.Buffers;
using System.Buffers.Binary;
using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;
using OpenWeights.Tune.Data.Files;

namespace OpenWeights.Tune.Data.Tokens;

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

/// <summary>What a store's index says of a row; its bytes lie in the file as they lie here.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct StoredRow
{
    /// <summary>Where its tokens begin, in bytes from the start of the file.</summary>
    internal long Offset;

    /// <summary>Its number in its file.</summary>
    internal long Number;

    /// <summary>A hash of its tokens and labels: rows that are the same have the same.</summary>
    internal ulong Hash;

    /// <summary>Its tokens.</summary>
    internal int Tokens;

    /// <summary>How many of them are predicted in training.</summary>
    internal int Targets;

    /// <summary>The number of ranges that are trained, behind the tokens; -1 where labels stand there, because they are not the tokens themselves.</summary>
    internal int Ranges;

    /// <summary>The number of turn ends, behind the ranges.</summary>
    internal int TurnEnds;

    /// <summary>Its file, by its place in the store's list.</summary>
    internal int File;

    /// <summary>Its role.</summary>
    internal RowRole Role;
}

/// <summary>What a store knows besides its rows; it stands in the file as JSON.</summary>
internal sealed record StoreFacts
{
    /// <summary>The files that the rows are of.</summary>
    public required IReadOnlyList<StoreFile> Files { get; init; }

    /// <summary>Rows that could not be read and were left out.</summary>
    public required long BadRows { get; init; }

    /// <summary>What is wrong with the first of them.</summary>
    public required IReadOnlyList<string> BadExamples { get; init; }

    /// <summary>What whoever trains on the chats should know of the template.</summary>
    public required IReadOnlyList<string> Warnings { get; init; }

    /// <summary>The tokens of all rows.</summary>
    public required long Tokens { get; init; }
}

/// <summary>A file whose rows are in a store.</summary>
/// <param name="Path">The file.</param>
/// <param name="Format">The format of its rows.</param>
/// <param name="Rows">The rows that were read of it.</param>
/// <param name="Unit">What a row's number counts.</param>
internal sealed record StoreFile(string Path, string Format, long Rows, RowUnit Unit);

/// <summary>Hashes of rows: those of rows with the same tokens and labels are the same, on every machine.</summary>
internal static class RowHash
{
    internal static ulong Of(ReadOnlySpan<int> ids, ReadOnlySpan<int> labels)
    {
        var both = ArrayPool<int>.Shared.Rent(ids.Length + labels.Length);
        ids.CopyTo(both);
        labels.CopyTo(both.AsSpan(ids.Length));
        Span<byte> result = stackalloc byte[SHA256.HashSizeInBytes];
        _ = SHA256.HashData(MemoryMarshal.AsBytes(both.AsSpan(0, ids.Length + labels.Length)), result);
        ArrayPool<int>.Shared.Return(both);
        return MemoryMarshal.Read<ulong>(result);
    }

    /// <summary>A hash of a hash and a seed, to draw by.</summary>
    internal static ulong Mix(ulong hash, long seed)
    {
        var z = hash + ((ulong)seed * 0x9E3779B97F4A7C15) + 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
