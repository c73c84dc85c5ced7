#nullable enable
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using Microsoft.Build.Framework;
using Microsoft.Build.Utilities;

namespace OpenWeights.Build;

/// <summary>One version of another library that an ELF file asks its loader for (an entry of .gnu.version_r).</summary>
/// <param name="library">The other library's file name, such as libstdc++.so.6.</param>
/// <param name="version">The version, such as GLIBCXX_3.4.32.</param>
/// <param name="isWeak">Whether the loader goes on where the library lacks the version.</param>
/// <param name="index">The number by which symbols name this version.</param>
/// <param name="flagsOffset">Where the entry's flags lie in the file.</param>
public sealed class ElfVersionNeed(string library, string version, bool isWeak, int index, long flagsOffset)
{
    /// <summary>The other library's file name, such as libstdc++.so.6.</summary>
    public string Library => library;

    /// <summary>The version, such as GLIBCXX_3.4.32.</summary>
    public string Version => version;

    /// <summary>Whether the loader goes on where the library lacks the version.</summary>
    public bool IsWeak => isWeak;

    /// <summary>The undefined symbols bound to this version.</summary>
    public IList<string> Symbols { get; } = new List<string>();

    /// <summary>Those of them that a relocation refers to: only these are ever looked up.</summary>
    public IList<string> UsedSymbols { get; } = new List<string>();

    /// <summary>
    /// Whether the need can go: symbols are bound to it and none is used. A version without symbols (GLIBC_ABI_DT_RELR) stands for
    /// something that the loader itself must know, and stays.
    /// </summary>
    public bool IsIdle => Symbols.Count > 0 && UsedSymbols.Count == 0;

    internal int Index => index;

    internal long FlagsOffset => flagsOffset;
}

/// <summary>
/// Reads which versions of other libraries an ELF file (64 bits, little endian, x86-64 or AArch64) needs, as its loader does: from the
/// dynamic segment, never from sections. Everything that the file says is checked against its length.
/// </summary>
public sealed class ElfVersionNeeds
{
    private const int Weak = 2;
    private const int SymbolSize = 24;

    private readonly Stream _file;
    private readonly string _name;
    private readonly Dictionary<long, long> _dynamic = new Dictionary<long, long>();
    private readonly List<(long Address, long Offset, long Size)> _segments = new List<(long, long, long)>();
    private readonly byte[] _strings = [];

    private ElfVersionNeeds(Stream file, string name)
    {
        _file = file;
        _name = name;
        var header = Read(0, 64, "its header");
        if (UInt16(header, 54) != 56)
        {
            throw Damaged("its program headers have an unknown size");
        }

        ReadSegments(Read(Int64(header, 32), 56L * UInt16(header, 56), "its program headers"));
        if (_dynamic.Count == 0 || !Has(Tag.VersionNeeds))
        {
            return;
        }

        _strings = Table(Tag.Strings, Value(Tag.StringsSize), "its strings");
        Needs.AddRange(ReadNeeds());
        ReadSymbols();
    }

    /// <summary>The versions that the file needs, in its order; empty where it needs none.</summary>
    public List<ElfVersionNeed> Needs { get; } = new List<ElfVersionNeed>();

    /// <summary>Whether a file begins as those do that this class reads; another machine's or another format's does not.</summary>
    /// <param name="file">The file, at least its first 20 bytes.</param>
    /// <returns>Whether <see cref="Read(Stream, string)"/> understands its kind.</returns>
    public static bool IsKnownKind(Stream file)
    {
        var header = new byte[20];
        file.Position = 0;
        var read = 0;
        for (int n; read < header.Length && (n = file.Read(header, read, header.Length - read)) > 0; read += n)
        {
        }

        return read == header.Length && header[0] == 0x7f && header[1] == 'E' && header[2] == 'L' && header[3] == 'F'
            && header[4] == 2 && header[5] == 1 && UInt16(header, 16) == 3 && UInt16(header, 18) is 62 or 183;
    }

    /// <summary>Reads an ELF file's needs.</summary>
    /// <param name="file">The file; it must be seekable.</param>
    /// <param name="name">What messages call it.</param>
    /// <returns>What it needs.</returns>
    /// <exception cref="InvalidDataException">It is no such file, or damaged; one sentence says how.</exception>
    public static ElfVersionNeeds Read(Stream file, string name)
    {
        return IsKnownKind(file)
            ? new ElfVersionNeeds(file, name)
            : throw new InvalidDataException($"{name} is no shared library in ELF format for x86-64 or AArch64.");
    }

    /// <summary>Marks every idle need weak in a copy of the file that was read.</summary>
    /// <param name="copy">The copy, writable and seekable.</param>
    public void MarkIdleWeak(Stream copy)
    {
        foreach (var need in Needs.Where(n => n.IsIdle && !n.IsWeak))
        {
            copy.Position = need.FlagsOffset;
            var low = copy.ReadByte();
            copy.Position = need.FlagsOffset;
            copy.WriteByte((byte)(low | Weak));
        }
    }

    private void ReadSegments(byte[] headers)
    {
        for (var at = 0; at < headers.Length; at += 56)
        {
            if (UInt32(headers, at) == 1)
            {
                _segments.Add((Int64(headers, at + 16), Int64(headers, at + 8), Int64(headers, at + 32)));
            }
        }

        for (var at = 0; at < headers.Length; at += 56)
        {
            if (UInt32(headers, at) == 2)
            {
                var entries = Read(Int64(headers, at + 8), Int64(headers, at + 32), "its dynamic segment");
                for (var i = 0; i + 16 <= entries.Length && Int64(entries, i) != 0; i += 16)
                {
                    _dynamic[Int64(entries, i)] = Int64(entries, i + 8);
                }
            }
        }
    }

    // Entries lie one after another; each says how far the next is, and all lie within what a file may hold.
    private IEnumerable<ElfVersionNeed> ReadNeeds()
    {
        var offset = Offset(Value(Tag.VersionNeeds), "its version needs");
        var libraries = Value(Tag.VersionNeedCount);
        if (libraries is < 0 or > ushort.MaxValue)
        {
            throw Damaged("it counts too many libraries whose versions it needs");
        }

        for (var i = 0L; i < libraries; i++)
        {
            var entry = Read(offset, 16, "its version needs");
            var library = Text(UInt32(entry, 4));
            var at = offset + UInt32(entry, 8);
            for (var k = 0; k < UInt16(entry, 2); k++)
            {
                var version = Read(at, 16, "its version needs");
                yield return new ElfVersionNeed(library, Text(UInt32(version, 8)), (UInt16(version, 4) & Weak) != 0, UInt16(version, 6) & 0x7fff, at + 4);
                at += UInt32(version, 12);
            }

            if (UInt32(entry, 12) == 0)
            {
                break;
            }

            offset += UInt32(entry, 12);
        }
    }

    private void ReadSymbols()
    {
        var byIndex = new Dictionary<int, ElfVersionNeed>();
        foreach (var need in Needs)
        {
            byIndex[need.Index] = need;
        }

        var used = UsedSymbols();
        // Undefined symbols come before those that the hash table knows; a used one lies anywhere.
        var count = Math.Max(UndefinedSymbols(), used.Count == 0 ? 0 : used.Max() + 1);
        var symbols = Table(Tag.Symbols, count * SymbolSize, "its symbols");
        var versions = Table(Tag.SymbolVersions, count * 2, "the versions of its symbols");
        for (var i = 1; i < count; i++)
        {
            if (byIndex.TryGetValue(UInt16(versions, i * 2) & 0x7fff, out var need))
            {
                var name = Text(UInt32(symbols, i * SymbolSize));
                need.Symbols.Add(name);
                if (used.Contains(i))
                {
                    need.UsedSymbols.Add(name);
                }
            }
        }
    }

    private HashSet<long> UsedSymbols()
    {
        if (Has(Tag.AndroidRelocations) || Has(Tag.AndroidRelocationsWithAddend))
        {
            throw Damaged("its relocations are packed as on Android");
        }

        // Relocations in DT_RELR name no symbols.
        var used = new HashSet<long>();
        AddRelocations(used, Tag.Relocations, Value(Tag.RelocationsSize), 16);
        AddRelocations(used, Tag.RelocationsWithAddend, Value(Tag.RelocationsWithAddendSize), 24);
        AddRelocations(used, Tag.Calls, Value(Tag.CallsSize), Value(Tag.CallsKind) == (long)Tag.Relocations ? 16 : 24);
        return used;
    }

    private void AddRelocations(HashSet<long> used, Tag table, long size, int entrySize)
    {
        if (!Has(table))
        {
            return;
        }

        var entries = Table(table, size, "its relocations");
        for (var at = 0; at + entrySize <= entries.Length; at += entrySize)
        {
            used.Add(UInt32(entries, at + 12));
        }

        used.Remove(0);
    }

    private long UndefinedSymbols()
    {
        if (Has(Tag.Hash))
        {
            return UInt32(Table(Tag.Hash, 8, "its hash table"), 4);
        }

        return Has(Tag.GnuHash) ? UInt32(Table(Tag.GnuHash, 8, "its hash table"), 4) : 0;
    }

    private bool Has(Tag tag)
    {
        return _dynamic.ContainsKey((long)tag);
    }

    private long Value(Tag tag)
    {
        return _dynamic.TryGetValue((long)tag, out var value) ? value : 0;
    }

    private byte[] Table(Tag tag, long size, string what)
    {
        return size == 0 ? [] : Read(Offset(Value(tag), what), size, what);
    }

    private long Offset(long address, string what)
    {
        foreach (var segment in _segments)
        {
            if (address >= segment.Address && address - segment.Address < segment.Size)
            {
                return address - segment.Address + segment.Offset;
            }
        }

        throw Damaged($"{what} lie outside of it");
    }

    private string Text(long at)
    {
        var end = at < _strings.Length ? Array.IndexOf(_strings, (byte)0, (int)at) : -1;
        return end < 0 ? throw Damaged("a name lies outside of its strings") : Encoding.UTF8.GetString(_strings, (int)at, end - (int)at);
    }

    private byte[] Read(long offset, long size, string what)
    {
        if (offset < 0 || size < 0 || size > _file.Length || offset > _file.Length - size || size > int.MaxValue - 64)
        {
            throw Damaged($"{what} lie outside of it");
        }

        var bytes = new byte[size];
        _file.Position = offset;
        for (int read = 0, n; read < bytes.Length; read += n)
        {
            n = _file.Read(bytes, read, bytes.Length - read);
            if (n <= 0)
            {
                throw Damaged("it ends early");
            }
        }

        return bytes;
    }

    private InvalidDataException Damaged(string how)
    {
        return new InvalidDataException($"{_name} is damaged: {how}; delete its package's folder and restore again.");
    }

    private static int UInt16(byte[] bytes, int at)
    {
        return bytes[at] | (bytes[at + 1] << 8);
    }

    private static long UInt32(byte[] bytes, int at)
    {
        return (uint)(UInt16(bytes, at) | (UInt16(bytes, at + 2) << 16));
    }

    private static long Int64(byte[] bytes, int at)
    {
        return UInt32(bytes, at) | (UInt32(bytes, at + 4) << 32);
    }

    // Entries of the dynamic segment.
    private enum Tag : long
    {
        CallsSize = 2,
        Hash = 4,
        Strings = 5,
        Symbols = 6,
        RelocationsWithAddend = 7,
        RelocationsWithAddendSize = 8,
        StringsSize = 10,
        Relocations = 17,
        RelocationsSize = 18,
        CallsKind = 20,
        Calls = 23,
        AndroidRelocations = 0x6000000f,
        AndroidRelocationsWithAddend = 0x60000011,
        GnuHash = 0x6ffffef5,
        SymbolVersions = 0x6ffffff0,
        VersionNeeds = 0x6ffffffe,
        VersionNeedCount = 0x6fffffff,
    }
}

/// <summary>
/// Writes copies of those native libraries that need versions of other libraries without using them, with these needs marked weak
/// (VER_FLG_WEAK): a loader whose libraries are older then goes on. The originals stay as they are.
/// </summary>
/// <remarks>
/// It is done for every Linux, not only where this machine's libraries are too old: what is built here may run elsewhere, and a need that
/// nothing uses is missed nowhere.
/// </remarks>
public sealed class MarkIdleNeedsWeak : Task
{
    /// <summary>The native libraries; those that are no ELF files are left alone.</summary>
    [Required]
    public ITaskItem[] Files { get; set; } = [];

    /// <summary>Where the copies go.</summary>
    [Required]
    public string Folder { get; set; } = "";

    /// <summary>The libraries to take in place of their originals: each has the original's metadata and, as Original, its path.</summary>
    [Output]
    public ITaskItem[] Copies { get; set; } = [];

    /// <inheritdoc/>
    public override bool Execute()
    {
        var copies = new List<ITaskItem>();
        foreach (var item in Files)
        {
            try
            {
                if (Copy(item.ItemSpec, Path.Combine(Folder, Path.GetFileName(item.ItemSpec))) is { } copy)
                {
                    var taken = new TaskItem(copy);
                    item.CopyMetadataTo(taken);
                    taken.SetMetadata("Original", item.ItemSpec);
                    copies.Add(taken);
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException)
            {
                Log.LogError(e.Message);
            }
        }

        Copies = copies.ToArray();
        return !Log.HasLoggedErrors;
    }

    private string? Copy(string path, string copy)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read);
        if (!ElfVersionNeeds.IsKnownKind(file))
        {
            return null;
        }

        var elf = ElfVersionNeeds.Read(file, path);
        var idle = elf.Needs.Where(n => n.IsIdle && !n.IsWeak).ToList();
        if (idle.Count == 0)
        {
            return null;
        }

        // Written beside and renamed; other projects of the solution may do the same at the same time.
        Directory.CreateDirectory(Folder);
        var fresh = $"{copy}.{Guid.NewGuid():N}";
        try
        {
            using (var to = new FileStream(fresh, FileMode.CreateNew, FileAccess.ReadWrite))
            {
                file.Position = 0;
                file.CopyTo(to);
                elf.MarkIdleWeak(to);
                to.Flush(flushToDisk: true);
            }

            File.Delete(copy);
            File.Move(fresh, copy);
        }
        finally
        {
            File.Delete(fresh);
        }

        Log.LogMessage(MessageImportance.Low, "{0}: marked weak, since nothing uses them: {1}", copy, string.Join(", ", idle.Select(n => n.Version)));
        return copy;
    }
}
