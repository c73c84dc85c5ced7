using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Torch.Memory;

/// <summary>
/// The functions that a loaded library of Linux calls in other libraries: places in its memory (the global offset table) that hold their
/// addresses, as the ELF format and the GNU C library's loader lay them out.
/// </summary>
internal static unsafe class ImportTable
{
    private const long Page = 4096;

    // Tags of the dynamic section.
    private const long PltSize = 2;
    private const long Strings = 5;
    private const long Symbols = 6;
    private const long Relocations = 7;
    private const long RelocationsSize = 8;
    private const long PltRelocations = 23;

    // Kinds of relocations whose place holds a symbol's address: GLOB_DAT and JUMP_SLOT.
    private static readonly uint[] s_kinds = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? [1025, 1026] : [6, 7];

    /// <summary>The places that hold a function's address; empty where the library does not call it.</summary>
    /// <param name="library">The handle of the library, which is the loader's own record of it.</param>
    /// <param name="name">The function.</param>
    internal static IReadOnlyList<nint> Find(nint library, string name)
    {
        var record = (LinkMap*)library;
        var found = new Dictionary<long, long>();
        for (var entry = record->Dynamic; entry[0] != 0; entry += 2)
        {
            found[entry[0]] = entry[1];
        }

        // glibc has turned the section's addresses into those of memory, except on processors where the section may not be written.
        nint Address(long tag) => found.GetValueOrDefault(tag) is var at && at != 0 && at < record->Base ? (nint)(at + record->Base) : (nint)at;
        var places = new List<nint>();
        foreach (var (table, size) in new[] { (Address(Relocations), found.GetValueOrDefault(RelocationsSize)), (Address(PltRelocations), found.GetValueOrDefault(PltSize)) })
        {
            for (var i = 0L; i < size / sizeof(Relocation); i++)
            {
                var relocation = (Relocation*)table + i;
                if (Array.IndexOf(s_kinds, (uint)relocation->Info) >= 0)
                {
                    var symbol = (Symbol*)Address(Symbols) + (relocation->Info >> 32);
                    if (MemoryMarshal.CreateReadOnlySpanFromNullTerminated((byte*)Address(Strings) + symbol->Name).SequenceEqual(System.Text.Encoding.ASCII.GetBytes(name)))
                    {
                        places.Add((nint)(record->Base + relocation->Offset));
                    }
                }
            }
        }

        return places;
    }

    /// <summary>Sets places to a function; false, with nothing changed, where the system does not allow it.</summary>
    internal static bool Set(IReadOnlyList<nint> places, nint function)
    {
        foreach (var place in places)
        {
            // The loader has made the table read-only after it filled it in. Nobody else changes it, and a word is written at once.
            var page = place & ~(nint)(Page - 1);
            if (!LinuxPages.Protect(page, Page, LinuxPages.Read | LinuxPages.Write))
            {
                return false;
            }
        }

        foreach (var place in places)
        {
            Volatile.Write(ref *(nint*)place, function);
        }

        return true;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct LinkMap
    {
        internal long Base;
        internal nint Name;
        internal long* Dynamic;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Relocation
    {
        internal long Offset;
        internal ulong Info;
        internal long Addend;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Symbol
    {
        internal uint Name;
        internal byte Info;
        internal byte Other;
        internal ushort Section;
        internal ulong Value;
        internal ulong Size;
    }
}
