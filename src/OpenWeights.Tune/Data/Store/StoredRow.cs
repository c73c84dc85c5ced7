using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Data.Store;

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
