#nullable enable
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using Microsoft.Build.Framework;
using Microsoft.Build.Utilities;

namespace OpenWeights.Build;

/// <summary>
/// Reads what a Windows library (PE32+, for x64 or ARM64) imports from others as it is loaded, and what it exports. It works on every
/// system. Everything that the file says is checked against its length.
/// </summary>
public sealed class WindowsLibrary
{
    private const int BlockSize = 1 << 16;
    private const int LongestName = 1 << 16;
    private const int MaxNames = 1 << 20;

    private readonly Stream _file;
    private readonly string _name;
    private readonly Dictionary<long, byte[]> _blocks = new Dictionary<long, byte[]>();
    private readonly List<(uint Address, uint Size, uint Offset, uint FileSize)> _sections = new List<(uint, uint, uint, uint)>();
    private int _names;
    private long _start = -1;
    private byte[] _block = [];

    private WindowsLibrary(Stream file, string name)
    {
        _file = file;
        _name = name;
        var header = UInt32(60);
        if (UInt16(0) != 0x5a4d || UInt32(header) != 0x4550 || UInt16(header + 24) != 0x20b)
        {
            throw new InvalidDataException($"{name} is no Windows library for 64 bits.");
        }

        var optional = header + 24L;
        var section = optional + UInt16(header + 20);
        for (var left = UInt16(header + 6); left > 0; left--, section += 40)
        {
            _sections.Add((UInt32(section + 12), UInt32(section + 8), UInt32(section + 20), UInt32(section + 16)));
        }

        var directories = UInt32(optional + 108);
        if (directories > 0 && UInt32(optional + 112) is not 0 and var exports)
        {
            ReadExports(exports);
        }

        if (directories > 1 && UInt32(optional + 120) is not 0 and var imports)
        {
            ReadImports(imports);
        }
    }

    /// <summary>The functions that it takes from each library, by the library's name; one without a name is written as #number.</summary>
    public IDictionary<string, List<string>> Imports { get; } = new Dictionary<string, List<string>>(StringComparer.OrdinalIgnoreCase);

    /// <summary>The functions that it offers, by name and as #number.</summary>
    public HashSet<string> Exports { get; } = new HashSet<string>(StringComparer.Ordinal);

    /// <summary>Reads a library.</summary>
    /// <param name="file">The file; it must be seekable.</param>
    /// <param name="name">What messages call it.</param>
    /// <returns>What it imports and exports.</returns>
    /// <exception cref="InvalidDataException">It is no such file, or damaged; one sentence says how.</exception>
    public static WindowsLibrary Read(Stream file, string name)
    {
        return new WindowsLibrary(file, name);
    }

    /// <summary>Reads libraries that are loaded together, and finds what some of them want of others that do not have it.</summary>
    /// <param name="paths">The files.</param>
    /// <param name="found">How many functions they want of each other and have.</param>
    /// <returns>For each pair of libraries that do not fit, the functions that are missing.</returns>
    /// <exception cref="InvalidDataException">One is no such file, or damaged; one sentence says how.</exception>
    public static IList<(string User, string Library, IList<string> Missing)> FindUnresolved(IEnumerable<string> paths, out int found)
    {
        var libraries = new SortedDictionary<string, WindowsLibrary>(StringComparer.OrdinalIgnoreCase);
        foreach (var path in paths)
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1);
            libraries[Path.GetFileName(path)] = Read(file, path);
        }

        found = 0;
        var unresolved = new List<(string User, string Library, IList<string> Missing)>();
        foreach (var user in libraries)
        {
            foreach (var import in user.Value.Imports.Where(i => libraries.ContainsKey(i.Key)))
            {
                var missing = import.Value.Where(f => !libraries[import.Key].Exports.Contains(f)).ToList();
                found += import.Value.Count - missing.Count;
                if (missing.Count > 0)
                {
                    unresolved.Add((user.Key, import.Key, missing));
                }
            }
        }

        return unresolved;
    }

    private void ReadExports(uint address)
    {
        var table = Offset(address);
        uint first = UInt32(table + 16), functions = UInt32(table + 20), names = UInt32(table + 24);
        if (functions > MaxNames || names > MaxNames)
        {
            throw Damaged("it counts too many exports");
        }

        for (var i = 0u; i < functions; i++)
        {
            Exports.Add($"#{first + i}");
        }

        var pointers = names == 0 ? 0 : Offset(UInt32(table + 32));
        for (var i = 0u; i < names; i++)
        {
            Exports.Add(Name(UInt32(pointers + (4 * i))));
        }
    }

    private void ReadImports(uint address)
    {
        for (var entry = Offset(address); UInt32(entry + 12) != 0; entry += 20)
        {
            var library = Name(UInt32(entry + 12));
            if (!Imports.TryGetValue(library, out var functions))
            {
                Imports[library] = functions = new List<string>();
            }

            var lookup = UInt32(entry) == 0 ? UInt32(entry + 16) : UInt32(entry);
            for (var at = Offset(lookup); (UInt32(at) | UInt32(at + 4)) != 0; at += 8)
            {
                functions.Add((UInt32(at + 4) & 0x80000000) != 0 ? $"#{UInt16(at)}" : Name(UInt32(at) + 2));
                CountName();
            }
        }
    }

    private void CountName()
    {
        if (++_names > MaxNames)
        {
            throw Damaged("it counts too many names");
        }
    }

    private string Name(uint address)
    {
        CountName();
        var at = Offset(address);
        var bytes = new List<byte>();
        for (byte b; (b = Byte(at)) != 0; at++)
        {
            bytes.Add(b);
            if (bytes.Count > LongestName)
            {
                throw Damaged("a name does not end");
            }
        }

        return Encoding.UTF8.GetString(bytes.ToArray());
    }

    private long Offset(uint address)
    {
        foreach (var section in _sections)
        {
            if (address >= section.Address && address - section.Address < Math.Min(Math.Max(section.Size, section.FileSize), section.FileSize))
            {
                return address - section.Address + (long)section.Offset;
            }
        }

        throw Damaged("a table lies outside of it");
    }

    private byte Byte(long at)
    {
        if (at < 0 || at >= _file.Length)
        {
            throw Damaged("it ends early");
        }

        // Names lie side by side: most bytes are of the block of the byte before.
        var start = at & -BlockSize;
        if (start == _start)
        {
            return _block[at - start];
        }

        if (!_blocks.TryGetValue(start, out var block))
        {
            block = new byte[Math.Min(BlockSize, _file.Length - start)];
            _file.Position = start;
            for (int read = 0, n; read < block.Length; read += n)
            {
                n = _file.Read(block, read, block.Length - read);
                if (n <= 0)
                {
                    throw Damaged("it ends early");
                }
            }

            _blocks[start] = block;
        }

        (_start, _block) = (start, block);
        return block[at - start];
    }

    private int UInt16(long at)
    {
        return Byte(at) | (Byte(at + 1) << 8);
    }

    private uint UInt32(long at)
    {
        return (uint)(UInt16(at) | (UInt16(at + 2) << 16));
    }

    private InvalidDataException Damaged(string how)
    {
        return new InvalidDataException($"{_name} is damaged: {how}; delete its package's folder and restore again.");
    }
}

/// <summary>Checks that the Windows libraries of a build have what they import of each other; Windows itself says only that something is missing.</summary>
public sealed class CheckWindowsImports : Microsoft.Build.Utilities.Task
{
    /// <summary>The native libraries that are loaded together, with the packages that they are of (NuGetPackageId, NuGetPackageVersion).</summary>
    [Required]
    public ITaskItem[] Files { get; set; } = [];

    /// <inheritdoc/>
    public override bool Execute()
    {
        try
        {
            var package = Files.ToLookup(f => Path.GetFileName(f.ItemSpec), f => $"{f.GetMetadata("NuGetPackageId")} {f.GetMetadata("NuGetPackageVersion")}", StringComparer.OrdinalIgnoreCase);
            var unresolved = WindowsLibrary.FindUnresolved(Files.Select(f => f.ItemSpec), out var found);
            foreach (var (user, library, missing) in unresolved)
            {
                var count = missing.Count == 1 ? "a function" : $"{missing.Count} functions";
                Log.LogError($"{user} of {package[user].First()} does not load with {package[library].First()}: {library} has no {count} that it imports ({string.Join(", ", missing.Take(3))}"
                    + $"{(missing.Count > 3 ? ", ..." : "")}); name versions that fit, as with -p:TorchSharpVersion=0.106.0 -p:LibTorchVersion=2.10.0.");
            }

            if (unresolved.Count == 0)
            {
                Log.LogMessage(MessageImportance.High, "{0} libraries for Windows, which have all {1:N0} functions that they import of each other", Files.Length, found);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException)
        {
            Log.LogError(e.Message);
        }

        return !Log.HasLoggedErrors;
    }
}
