using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using OpenWeights.Tune.Data.Tokens;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Stored;

/// <summary>
/// Log-probabilities of rows in a file: a header, an index of (hash of the row, first target), and for each target the most likely tokens, their
/// log-probabilities, and its own. Rows are found by the hash of their tokens and labels, packed or not.
/// </summary>
internal sealed class LogProbStore : IDisposable
{
    /// <summary>First bytes of a file.</summary>
    internal static ReadOnlySpan<byte> Magic => "owtlogp1"u8;

    /// <summary>Bytes before the index: the first bytes, the numbers of rows, targets and most likely tokens.</summary>
    internal const int HeaderBytes = 32;

    /// <summary>Bytes of a row in the index.</summary>
    internal const int EntryBytes = 16;

    private readonly SafeFileHandle _file;
    private readonly Dictionary<ulong, (long First, int Count)> _rows;
    private readonly LogProbSettings _settings;
    private readonly long _start;
    private readonly string _path;

    private LogProbStore(string path, SafeFileHandle file, Dictionary<ulong, (long First, int Count)> rows, int top)
    {
        (_path, _file, _rows, _settings) = (path, file, rows, new LogProbSettings(top));
        _start = HeaderBytes + ((long)EntryBytes * rows.Count);
    }

    /// <summary>Number of the most likely tokens of each target.</summary>
    internal int Top => _settings.Top;

    /// <summary>Opens a file.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">It is not whole.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    internal static LogProbStore Open(string path)
    {
        var file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete);
        try
        {
            var header = Read(path, file, 0, HeaderBytes);
            long Number(int at) => BinaryPrimitives.ReadInt64LittleEndian(header.AsSpan(at));
            var (rows, targets, top) = (Number(8), Number(16), Number(24));
            if (!header.AsSpan(0, 8).SequenceEqual(Magic) || rows is < 0 or > int.MaxValue
                || RandomAccess.GetLength(file) != HeaderBytes + (rows * EntryBytes) + (targets * new LogProbSettings((int)top).TargetBytes))
            {
                throw Damaged(path);
            }

            var index = Read(path, file, HeaderBytes, (int)rows * EntryBytes);
            var found = new Dictionary<ulong, (long, int)>((int)rows);
            for (var i = 0; i < rows; i++)
            {
                var first = BinaryPrimitives.ReadInt64LittleEndian(index.AsSpan((i * EntryBytes) + 8));
                var next = i + 1 < rows ? BinaryPrimitives.ReadInt64LittleEndian(index.AsSpan(((i + 1) * EntryBytes) + 8)) : targets;
                found[BinaryPrimitives.ReadUInt64LittleEndian(index.AsSpan(i * EntryBytes))] = (first, checked((int)(next - first)));
            }

            return new LogProbStore(path, file, found, (int)top);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>What is stored of the targets of rows, in their order, on a device and in the caller's dispose scope; null if a row is not stored.</summary>
    /// <param name="rows">The rows, packed or not.</param>
    /// <param name="device">The device.</param>
    internal StoredTargets? Find(IReadOnlyList<TokenRow> rows, Device device)
    {
        var places = new List<(long First, int Count)>();
        foreach (var document in rows.SelectMany(static r => r.EachDocument()))
        {
            if (!_rows.TryGetValue(RowHash.Of(document.Ids, document.Labels), out var place))
            {
                return null;
            }

            places.Add(place);
        }

        using var scope = NewDisposeScope();
        var (count, top) = (places.Sum(static p => p.Count), _settings.Top);
        var (logProbs, ids, tops) = (new float[count], new int[count * top], new float[count * top]);
        var at = 0;
        foreach (var (first, targets) in places)
        {
            var bytes = Read(_path, _file, _start + (first * _settings.TargetBytes), targets * _settings.TargetBytes);
            for (var i = 0; i < targets; i++, at++)
            {
                var target = bytes.AsSpan(i * _settings.TargetBytes, _settings.TargetBytes);
                MemoryMarshal.Cast<byte, int>(target[..(4 * top)]).CopyTo(ids.AsSpan(at * top));
                MemoryMarshal.Cast<byte, float>(target[(4 * top)..(8 * top)]).CopyTo(tops.AsSpan(at * top));
                logProbs[at] = BinaryPrimitives.ReadSingleLittleEndian(target[(8 * top)..]);
            }
        }

        return new StoredTargets(
            tensor(logProbs, [count]).to(device).MoveToOuterDisposeScope(), tensor(ids, [count, top]).to(int64).to(device).MoveToOuterDisposeScope(), tensor(tops, [count, top]).to(device).MoveToOuterDisposeScope());
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    private static byte[] Read(string path, SafeFileHandle file, long offset, int count)
    {
        var bytes = new byte[count];
        var read = 0;
        while (read < count)
        {
            var more = RandomAccess.Read(file, bytes.AsSpan(read), offset + read);
            read += more > 0 ? more : throw Damaged(path);
        }

        return bytes;
    }

    private static InvalidDataException Damaged(string path) => new($"{path}: this file of log-probabilities is not whole; delete it, and it is computed again.");
}
