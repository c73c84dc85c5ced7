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
/// Reads which versions of other libraries an ELF file (64 bits, little endian, x86-64 or AArch64) needs and which it offers, as its
/// loader does: from the dynamic segment, never from sections. Everything that the file says is checked against its length.
/// </summary>
public sealed class ElfVersionNeeds
{
    private const int Weak = 2;
    private const int SymbolSize = 24;

    // Functions that libstdc++ offers under an older version too, to this day: it was only declared anew. RHEL 9 has the older alone.
    private static readonly (string Symbol, string Version, string Older)[] OlderVersions =
    [
        ("_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE", "GLIBCXX_3.4.30", "GLIBCXX_3.4.11"),
    ];

    private readonly List<(long Offset, int Version)> _rebound = new List<(long, int)>();
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
        _strings = Has(Tag.Strings) ? Table(Tag.Strings, Value(Tag.StringsSize), "its strings") : [];
        if (Has(Tag.VersionsOffered))
        {
            ReadOffers();
        }

        if (Has(Tag.VersionNeeds))
        {
            ReadNeeds();
            ReadSymbols();
        }
    }

    /// <summary>The versions that the file itself offers to others.</summary>
    public HashSet<string> Offers { get; } = new HashSet<string>(StringComparer.Ordinal);

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

    /// <summary>
    /// Loosens the needs in a copy of the file that was read: functions that exist under an older version are bound to that, and every
    /// idle need is marked weak.
    /// </summary>
    /// <param name="copy">The copy, writable and seekable.</param>
    public void Loosen(Stream copy)
    {
        foreach (var (offset, version) in _rebound)
        {
            copy.Position = offset;
            copy.WriteByte((byte)version);
            copy.WriteByte((byte)(version >> 8));
        }

        foreach (var need in Needs.Where(n => n.IsIdle && !n.IsWeak))
        {
            copy.Position = need.FlagsOffset;
            var low = copy.ReadByte();
            copy.Position = need.FlagsOffset;
            copy.WriteByte((byte)(low | Weak));
        }
    }

    /// <summary>What the loader will not find for this file, although it is used.</summary>
    /// <param name="offers">The versions that a library offers, by its file name; null where they are not known.</param>
    /// <returns>A sentence for each library that lacks something.</returns>
    public IEnumerable<string> FindMissing(Func<string, ICollection<string>?> offers)
    {
        foreach (var library in Needs.Where(n => !n.IsWeak && !n.IsIdle).GroupBy(n => n.Library))
        {
            var known = offers(library.Key);
            var missing = library.Where(n => known is not null && !known.Contains(n.Version)).ToList();
            if (missing.Count > 0)
            {
                yield return $"{Path.GetFileName(_name)} needs {string.Join(", ", missing.Select(n => n.Version))} of {library.Key}"
                    + $" ({string.Join(", ", missing.SelectMany(n => n.UsedSymbols).Take(3))}), which this system's does not have; "
                    + "take a newer system, or an installed libtorch or PyTorch with -p:TorchRuntime=system (OWT_TORCH=system for scripts/owt).";
            }
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

                break;
            }
        }
    }

    // Entries lie one after another; each says how far the next is.
    private void ReadNeeds()
    {
        var offset = Offset(Value(Tag.VersionNeeds), "its version needs");
        for (var left = Count(Tag.VersionNeedCount); left > 0; left--)
        {
            var entry = Read(offset, 16, "its version needs");
            var library = Text(UInt32(entry, 4));
            var at = offset + UInt32(entry, 8);
            for (var k = UInt16(entry, 2); k > 0; k--)
            {
                var version = Read(at, 16, "its version needs");
                Needs.Add(new ElfVersionNeed(library, Text(UInt32(version, 8)), (UInt16(version, 4) & Weak) != 0, UInt16(version, 6) & 0x7fff, at + 4));
                if (Needs.Count > ushort.MaxValue)
                {
                    throw Damaged("it counts too many versions");
                }

                at += UInt32(version, 12);
            }

            offset += UInt32(entry, 12);
        }
    }

    private void ReadOffers()
    {
        var offset = Offset(Value(Tag.VersionsOffered), "its versions");
        for (var left = Count(Tag.VersionsOfferedCount); left > 0; left--)
        {
            var entry = Read(offset, 20, "its versions");
            Offers.Add(Text(UInt32(Read(offset + UInt32(entry, 12), 8, "its versions"), 0)));
            offset += UInt32(entry, 16);
        }
    }

    private long Count(Tag tag) => Value(tag) is >= 0 and <= ushort.MaxValue ? Value(tag) : throw Damaged("it counts too many versions");

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
                if (!used.Contains(i))
                {
                    continue;
                }

                var older = OlderVersions.Where(o => o.Symbol == name && o.Version == need.Version).Select(o => o.Older).FirstOrDefault();
                if (older is not null && Needs.Find(n => n.Library == need.Library && n.Version == older) is { } instead)
                {
                    _rebound.Add((Offset(Value(Tag.SymbolVersions), "the versions of its symbols") + (i * 2), instead.Index));
                }
                else
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
            throw new InvalidDataException($"{_name} has packed relocations, as on Android, which are not read here.");
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

    private bool Has(Tag tag) => _dynamic.ContainsKey((long)tag);

    private long Value(Tag tag) => _dynamic.TryGetValue((long)tag, out var value) ? value : 0;

    private byte[] Table(Tag tag, long size, string what) => size == 0 ? [] : Read(Offset(Value(tag), what), size, what);

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

    private static int UInt16(byte[] bytes, int at) => bytes[at] | (bytes[at + 1] << 8);

    private static long UInt32(byte[] bytes, int at) => (uint)(UInt16(bytes, at) | (UInt16(bytes, at + 2) << 16));

    private static long Int64(byte[] bytes, int at) => UInt32(bytes, at) | (UInt32(bytes, at + 4) << 32);

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
        VersionsOffered = 0x6ffffffc,
        VersionsOfferedCount = 0x6ffffffd,
        VersionNeeds = 0x6ffffffe,
        VersionNeedCount = 0x6fffffff,
    }
}

/// <summary>
/// Copies native libraries to where builds take them from. In the copies needs of versions that nothing uses are marked weak
/// (VER_FLG_WEAK): a loader whose libraries are older then goes on. The originals stay as they are.
/// </summary>
/// <remarks>
/// TorchSharp's library was linked where libstdc++ is newer than that of Debian 12, Ubuntu 22.04 or RHEL 9. It is done for every Linux, not only where this machine's libraries are too old: what is built here may run elsewhere, and a need that
/// nothing uses is missed nowhere.
/// </remarks>
public sealed class WriteNativeFiles : Microsoft.Build.Utilities.Task
{
    /// <summary>The libraries, each with the place of its copy as Stored.</summary>
    [Required]
    public ITaskItem[] Files { get; set; } = [];

    /// <summary>This source file: what was written before it was changed is written again.</summary>
    [Required]
    public string Source { get; set; } = "";

    /// <summary>Whether the program will run on a system like this one, so that what it misses here is worth a warning.</summary>
    public bool ForThisSystem { get; set; }

    /// <inheritdoc/>
    public override bool Execute()
    {
        foreach (var item in Files)
        {
            try
            {
                Write(item.ItemSpec, item.GetMetadata("Stored"));
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                Log.LogError(e.Message);
            }
        }

        return !Log.HasLoggedErrors;
    }

    private void Write(string path, string copy)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
        using var turn = Wait($"{copy}.writing");
        // Another project of the same build may have written it meanwhile.
        var written = File.GetLastWriteTimeUtc(copy);
        if (File.Exists(copy) && written >= File.GetLastWriteTimeUtc(path) && written >= File.GetLastWriteTimeUtc(Source))
        {
            return;
        }

        var fresh = $"{copy}.fresh";
        using (var from = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read))
        using (var to = new FileStream(fresh, FileMode.Create, FileAccess.ReadWrite))
        {
            from.CopyTo(to, 1 << 20);
            if (ElfVersionNeeds.IsKnownKind(from))
            {
                Loosen(from, to, path);
            }

            to.Flush(flushToDisk: true);
        }

        if (File.Exists(copy))
        {
            File.Replace(fresh, copy, null);
        }
        else
        {
            File.Move(fresh, copy);
        }
    }

    private void Loosen(Stream from, Stream to, string path)
    {
        try
        {
            var elf = ElfVersionNeeds.Read(from, path);
            elf.Loosen(to);
            Log.LogMessage(MessageImportance.Low, "{0}: marked weak: {1}", path, string.Join(", ", elf.Needs.Where(n => n.IsIdle).Select(n => n.Version)));
            foreach (var sentence in ForThisSystem ? elf.FindMissing(SystemOffers) : [])
            {
                Log.LogWarning(sentence);
            }
        }
        catch (InvalidDataException e)
        {
            // The loader may know better; it tells as the program starts.
            Log.LogMessage(MessageImportance.High, "{0} It is taken as it is.", e.Message);
        }
    }

    // .NET itself has loaded the libraries in question; others are not looked for.
    private static ICollection<string>? SystemOffers(string library)
    {
        const string Maps = "/proc/self/maps";
        var line = File.Exists(Maps) ? File.ReadLines(Maps).FirstOrDefault(l => l.EndsWith($"/{library}", StringComparison.Ordinal)) : null;
        if (line is null)
        {
            return null;
        }

        using var file = new FileStream(line.Substring(line.IndexOf('/')), FileMode.Open, FileAccess.Read, FileShare.Read);
        return ElfVersionNeeds.IsKnownKind(file) ? ElfVersionNeeds.Read(file, library).Offers : null;
    }

    // Holds a file that only one process can hold; it goes with it.
    private static FileStream Wait(string path)
    {
        for (var tries = 0; ; tries++)
        {
            try
            {
                return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1, FileOptions.DeleteOnClose);
            }
            catch (IOException) when (tries < 3000)
            {
                System.Threading.Thread.Sleep(100);
            }
        }
    }
}
