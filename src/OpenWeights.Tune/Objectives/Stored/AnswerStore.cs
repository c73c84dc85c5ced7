using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using OpenWeights.Formats.Files;

namespace OpenWeights.Tune.Objectives.Stored;

/// <summary>
/// Answers to rows in a file: a header, an index of (hash of the row, first token), and the tokens. Rows are found by the hash of their tokens and labels.
/// </summary>
internal sealed class AnswerStore : IDisposable
{
    // The first bytes, and the numbers of rows and tokens.
    private const int HeaderBytes = 24;
    private const int EntryBytes = 16;

    private readonly SafeFileHandle _file;
    private readonly Dictionary<ulong, (long First, int Count)> _rows;
    private readonly string _path;

    private AnswerStore(string path, SafeFileHandle file, Dictionary<ulong, (long First, int Count)> rows) => (_path, _file, _rows) = (path, file, rows);

    private static ReadOnlySpan<byte> Magic => "owtansw1"u8;

    /// <summary>Writes a file as a whole or not at all.</summary>
    /// <param name="path">The file; its folder is created.</param>
    /// <param name="answers">The answer to each row, by the row's hash.</param>
    /// <exception cref="IOException">The file cannot be written.</exception>
    internal static void Write(string path, IReadOnlyList<(ulong Row, IReadOnlyList<int> Tokens)> answers)
    {
        _ = Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        var tokens = answers.Sum(static a => (long)a.Tokens.Count);
        AtomicFile.Write(
            path,
            stream =>
            {
                var header = new byte[HeaderBytes + (EntryBytes * answers.Count)];
                Magic.CopyTo(header);
                BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(8), answers.Count);
                BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(16), tokens);
                var (at, first) = (HeaderBytes, 0L);
                foreach (var (row, own) in answers)
                {
                    BinaryPrimitives.WriteUInt64LittleEndian(header.AsSpan(at), row);
                    BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(at + 8), first);
                    (at, first) = (at + EntryBytes, first + own.Count);
                }

                stream.Write(header);
                foreach (var (_, own) in answers)
                {
                    stream.Write(MemoryMarshal.AsBytes<int>(own.ToArray()));
                }
            },
            HeaderBytes + ((long)EntryBytes * answers.Count) + (sizeof(int) * tokens));
    }

    /// <summary>Opens a file.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">It is not whole.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    internal static AnswerStore Open(string path)
    {
        var file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete);
        try
        {
            var header = Read(path, file, 0, HeaderBytes);
            var (rows, tokens) = (BinaryPrimitives.ReadInt64LittleEndian(header.AsSpan(8)), BinaryPrimitives.ReadInt64LittleEndian(header.AsSpan(16)));
            if (!header.AsSpan(0, 8).SequenceEqual(Magic) || rows is < 0 or > int.MaxValue / EntryBytes || RandomAccess.GetLength(file) != HeaderBytes + (rows * EntryBytes) + (tokens * sizeof(int)))
            {
                throw Damaged(path);
            }

            var index = Read(path, file, HeaderBytes, (int)rows * EntryBytes);
            long First(int row) => row < rows ? BinaryPrimitives.ReadInt64LittleEndian(index.AsSpan((row * EntryBytes) + 8)) : tokens;
            return new AnswerStore(path, file, Enumerable.Range(0, (int)rows).ToDictionary(i => BinaryPrimitives.ReadUInt64LittleEndian(index.AsSpan(i * EntryBytes)), i => (First(i), checked((int)(First(i + 1) - First(i))))));
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>The answer to a row; null if there is none.</summary>
    /// <param name="row">The row's hash.</param>
    internal int[]? Find(ulong row) => !_rows.TryGetValue(row, out var place) ? null
        : MemoryMarshal.Cast<byte, int>(Read(_path, _file, HeaderBytes + ((long)EntryBytes * _rows.Count) + (place.First * sizeof(int)), place.Count * sizeof(int))).ToArray();

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    private static byte[] Read(string path, SafeFileHandle file, long offset, int count)
    {
        var bytes = new byte[count];
        for (var read = 0; read < count;)
        {
            var more = RandomAccess.Read(file, bytes.AsSpan(read), offset + read);
            read += more > 0 ? more : throw Damaged(path);
        }

        return bytes;
    }

    private static InvalidDataException Damaged(string path) => new($"{path}: this file of a teacher's answers is not whole; delete it, and they are sampled again.");
}
