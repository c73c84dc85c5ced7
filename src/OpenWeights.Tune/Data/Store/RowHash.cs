using System.Buffers;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace OpenWeights.Tune.Data.Store;

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
