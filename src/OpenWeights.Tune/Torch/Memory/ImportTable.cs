using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Torch.Memory;

/// <summary>
/// The functions that a loaded Linux library imports: entries in its memory (the global offset table) that contain their
/// addresses, in the ELF format and the layout of the GNU C library's loader.
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

    // Relocation types whose entry contains a symbol's address: GLOB_DAT and JUMP_SLOT.
    private static readonly uint[] s_kinds = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? [1025, 1026] : [6, 7];

    /// <summary>The entries that contain a function's address; empty if the library does not import it.</summary>
    /// <param name="library">Handle of the library, a pointer to the loader's record of it.</param>
    /// <param name="name">Name of the function.</param>
    internal static IReadOnlyList<nint> Find(nint library, string name)
    {
        var record = (LinkMap*)library;
        var found = new Dictionary<long, long>();
        for (var entry = record->Dynamic; entry[0] != 0; entry += 2)
        {
            found[entry[0]] = entry[1];
        }

        // glibc has relocated the section's addresses, except on processors where the section is read-only.
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

    /// <summary>Sets entries to a function; false, without any change, if the system does not allow it.</summary>
    internal static bool Set(IReadOnlyList<nint> places, nint function)
    {
        foreach (var place in places)
        {
            // The loader made the table read-only after filling it in. Nothing else changes it, and a word is written atomically.
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
