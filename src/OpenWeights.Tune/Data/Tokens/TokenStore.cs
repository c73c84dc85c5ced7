using System.Buffers;
using System.Buffers.Binary;
using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;
using OpenWeights.Tune.Data.Files;

namespace OpenWeights.Tune.Data.Tokens;

/// <summary>Tokenized rows in a memory-mapped file: the system loads only what is read, whatever the size of the file.</summary>
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

    /// <summary>Keeps the mapping alive until the last reference to a row is gone.</summary>
    ~TokenStore() => _view.ReleasePointer();

    /// <summary>Number of rows.</summary>
    internal int Count { get; }

    /// <summary>Further information in the store.</summary>
    internal StoreFacts Facts { get; }

    /// <summary>Maximum length of each text of a row of related texts, in tokens; null for no limit.</summary>
    internal int? TextLimit { get; set; }

    /// <summary>Opens a store.</summary>
    /// <param name="file">The file; it is closed when nothing reads it any more.</param>
    /// <returns>The store, or null if the file is incomplete.</returns>
    internal static TokenStore? Open(FileStream file)
    {
        var length = file.Length;
        if (length < TokenStoreWriter.Magic.Length + TokenStoreWriter.TrailerLength)
        {
            return null;
        }

        // The mapping keeps the file open; the view's handle keeps the mapping open.
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

    /// <summary>The index entry of a row.</summary>
    internal ref readonly StoredRow Entry(int row)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)row, (uint)Count);
        return ref ((StoredRow*)(_start + _blocks[row / TokenStoreWriter.BlockRows]))[row % TokenStoreWriter.BlockRows];
    }

    /// <summary>Origin of a row, as shown in messages.</summary>
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

    /// <summary>The positions where a row may be truncated; of related texts, where each ends.</summary>
    internal ReadOnlySpan<int> TurnEnds(int row)
    {
        ref readonly var entry = ref Entry(row);
        return new ReadOnlySpan<int>(_start + entry.Offset + (4L * (entry.Tokens + LabelInts(entry))), entry.TurnEnds);
    }

    /// <summary>What a row has besides tokens; null for nothing.</summary>
    internal string? Fields(int row)
    {
        ref readonly var entry = ref Entry(row);
        var fields = entry.Fields == 0 ? null : Encoding.UTF8.GetString(_start + entry.Offset + (4L * (entry.Tokens + LabelInts(entry) + entry.TurnEnds)), entry.Fields);
        GC.KeepAlive(this);
        return fields;
    }

    /// <summary>Number of target tokens in a part of a row.</summary>
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
        if (entry.Role == RowRole.Related)
        {
            return Related(row);
        }

        var labels = new int[length];
        Labels(row, start, labels);
        var made = new TokenRow(Ids(row).Slice(start, length).ToArray(), labels, Place(row))
        {
            Role = entry.Role,
            Fields = Fields(row),
            Label = entry.Role == RowRole.Classified ? Facts.Labels[(int)entry.Value] : null,
            Margin = entry.Role == RowRole.Chosen ? entry.Value : 0,
        };
        GC.KeepAlive(this);
        return made;
    }

    /// <summary>Length of the longest text of a row of related texts, in tokens.</summary>
    internal int LongestText(int row)
    {
        var (longest, start) = (0, 0);
        foreach (var end in TurnEnds(row))
        {
            (longest, start) = (Math.Max(longest, end - start), end);
        }

        return longest;
    }

    /// <summary>Number of tokens by which the texts of a row exceed a limit.</summary>
    internal int TokensBeyond(int row, int limit)
    {
        var (beyond, start) = (0, 0);
        foreach (var end in TurnEnds(row))
        {
            (beyond, start) = (beyond + Math.Max(0, end - start - limit), end);
        }

        return beyond;
    }

    // The texts of a row, each cut to the limit.
    private TokenRow Related(int row)
    {
        var (ids, lengths, start) = (new List<int>(), new List<int>(), 0);
        foreach (var end in TurnEnds(row))
        {
            var length = Math.Min(end - start, TextLimit ?? int.MaxValue);
            ids.AddRange(Ids(row).Slice(start, length));
            lengths.Add(length);
            start = end;
        }

        GC.KeepAlive(this);
        return new TokenRow([.. ids], [.. ids], [.. lengths], Place(row)) { Role = RowRole.Related };
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

/// <summary>The index entry of a row, in the layout of the file.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct StoredRow
{
    /// <summary>Offset of its tokens in the file, in bytes.</summary>
    internal long Offset;

    /// <summary>Its number in its source file.</summary>
    internal long Number;

    /// <summary>Hash of its tokens and labels, equal for identical rows.</summary>
    internal ulong Hash;

    /// <summary>Number of tokens.</summary>
    internal int Tokens;

    /// <summary>Number of target tokens.</summary>
    internal int Targets;

    /// <summary>
    /// Number of trained ranges, stored after the tokens; -1 if complete labels are stored instead, because they differ from the tokens.
    /// </summary>
    internal int Ranges;

    /// <summary>Number of turn ends, stored after the ranges.</summary>
    internal int TurnEnds;

    /// <summary>Number of bytes of its fields, stored after the turn ends.</summary>
    internal int Fields;

    /// <summary>Index of its source file in the store's list.</summary>
    internal int File;

    /// <summary>Its role.</summary>
    internal RowRole Role;

    /// <summary>Of a chosen answer its margin; of a text with a class the index of that class in the store's list; otherwise 0.</summary>
    internal double Value;
}

/// <summary>Information about a store besides its rows, stored as JSON.</summary>
internal sealed record StoreFacts
{
    /// <summary>The source files.</summary>
    public required IReadOnlyList<StoreFile> Files { get; init; }

    /// <summary>Number of rows that could not be read and were skipped.</summary>
    public required long BadRows { get; init; }

    /// <summary>Problems of the first of them.</summary>
    public required IReadOnlyList<string> BadExamples { get; init; }

    /// <summary>Warnings about the chat template.</summary>
    public required IReadOnlyList<string> Warnings { get; init; }

    /// <summary>Total number of tokens.</summary>
    public required long Tokens { get; init; }

    /// <summary>The classes of its rows, in order of their first row; empty for other rows.</summary>
    public IReadOnlyList<string> Labels { get; init; } = [];
}

/// <summary>A source file of a store.</summary>
/// <param name="Path">Path of the file.</param>
/// <param name="Format">Format of its rows.</param>
/// <param name="Rows">Number of rows read.</param>
/// <param name="Unit">What a row's number counts.</param>
internal sealed record StoreFile(string Path, string Format, long Rows, RowUnit Unit);

/// <summary>Hashes of rows, equal for rows with the same tokens and labels, on every machine.</summary>
internal static class RowHash
{
    /// <summary>The hash of a row; rows of other classes, or with other borders between their texts, differ.</summary>
    internal static ulong Of(TokenRow row) =>
        row.Label is not null ? Of(row.Ids, [.. row.Labels, .. row.Label.Select(static c => (int)c)])
        : row.Role == RowRole.Related ? Of(row.Ids, row.Documents)
        : Of(row.Ids, row.Labels);

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

    /// <summary>A hash combined with a seed, for random selection.</summary>
    internal static ulong Mix(ulong hash, long seed)
    {
        var z = hash + ((ulong)seed * 0x9E3779B97F4A7C15) + 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
