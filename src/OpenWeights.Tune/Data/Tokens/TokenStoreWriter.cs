using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;

namespace OpenWeights.Tune.Data.Tokens;

/// <summary>
/// Writes tokenized rows sequentially, after each block of rows its index, and at the end the offsets of these index blocks and
/// further information. Memory use does not grow with the number of rows.
/// </summary>
/// <param name="stream">Written only forward.</param>
internal sealed class TokenStoreWriter(Stream stream)
{
    /// <summary>First and last bytes of the file; they contain the version of the layout.</summary>
    internal static ReadOnlySpan<byte> Magic => "OWTROWS3"u8;

    /// <summary>Number of rows per index block.</summary>
    internal const int BlockRows = 1 << 12;

    /// <summary>Offset of the list of index blocks, rows, facts offset, facts length, magic.</summary>
    internal const int TrailerLength = 40;

    private readonly List<StoredRow> _block = new(BlockRows);
    private readonly List<long> _blocks = [];
    private readonly Dictionary<string, int> _labels = [];
    private long _position;

    /// <summary>Number of rows so far.</summary>
    internal int Count { get; private set; }

    /// <summary>Number of tokens so far.</summary>
    internal long Tokens { get; private set; }

    /// <summary>The classes of the rows so far, in order of their first row.</summary>
    internal IReadOnlyList<string> Labels => [.. _labels.Keys];

    /// <summary>Adds a row.</summary>
    internal void Add(TokenRow row, ulong hash, int file, long number)
    {
        if (_position == 0)
        {
            Write(Magic);
        }

        var (ranges, ends) = (Ranges(row), row.Role == RowRole.Related ? Ends(row.Documents) : row.TurnEnds);
        var fields = row.Fields is null ? [] : Encoding.UTF8.GetBytes(row.Fields);
        _block.Add(new StoredRow
        {
            Offset = _position,
            Number = number,
            Hash = hash,
            Tokens = row.Ids.Length,
            Targets = row.CountTargets(),
            Ranges = ranges is null ? -1 : ranges.Count / 2,
            TurnEnds = ends.Length,
            Fields = fields.Length,
            File = file,
            Role = row.Role,
            Value = row.Label is null ? row.Margin : Number(row.Label),
        });
        Write(MemoryMarshal.AsBytes<int>(row.Ids));
        Write(MemoryMarshal.AsBytes(ranges is null ? row.Labels : CollectionsMarshal.AsSpan(ranges)));
        Write(MemoryMarshal.AsBytes<int>(ends));
        Write(fields);

        // Tokens are read in place, so they are aligned to four bytes.
        Write(stackalloc byte[(4 - (fields.Length % 4)) % 4]);
        Tokens += row.Ids.Length;
        Count = checked(Count + 1);
        if (_block.Count == BlockRows)
        {
            EndBlock();
        }
    }

    /// <summary>Writes the index and the information.</summary>
    internal void Finish(StoreFacts facts)
    {
        if (_position == 0)
        {
            Write(Magic);
        }

        EndBlock();
        var index = _position;
        Write(MemoryMarshal.AsBytes(CollectionsMarshal.AsSpan(_blocks)));
        var factsAt = _position;
        var json = JsonSerializer.SerializeToUtf8Bytes(facts);
        Write(json);
        Span<byte> trailer = stackalloc byte[TrailerLength];
        BinaryPrimitives.WriteInt64LittleEndian(trailer, index);
        BinaryPrimitives.WriteInt64LittleEndian(trailer[8..], Count);
        BinaryPrimitives.WriteInt64LittleEndian(trailer[16..], factsAt);
        BinaryPrimitives.WriteInt64LittleEndian(trailer[24..], json.Length);
        Magic.CopyTo(trailer[32..]);
        Write(trailer);
    }

    // The number of a class.
    private int Number(string label)
    {
        if (!_labels.TryGetValue(label, out var number))
        {
            _labels.Add(label, number = _labels.Count);
        }

        return number;
    }

    // Where each document ends.
    private static int[] Ends(int[] lengths)
    {
        var end = 0;
        return Array.ConvertAll(lengths, length => end += length);
    }

    private void EndBlock()
    {
        // The index is read in place, so it is aligned to eight bytes.
        Write(stackalloc byte[(int)((8 - (_position % 8)) % 8)]);
        _blocks.Add(_position);
        Write(MemoryMarshal.AsBytes(CollectionsMarshal.AsSpan(_block)));
        _block.Clear();
    }

    // Starts and ends of trained ranges; null if a label differs from its token.
    private static List<int>? Ranges(TokenRow row)
    {
        var ranges = new List<int>();
        for (var i = 0; i < row.Labels.Length; i++)
        {
            var label = row.Labels[i];
            if (label == TokenRow.Ignored)
            {
                continue;
            }

            if (label != row.Ids[i])
            {
                return null;
            }

            if (ranges.Count > 0 && ranges[^1] == i)
            {
                ranges[^1] = i + 1;
            }
            else
            {
                ranges.AddRange([i, i + 1]);
            }
        }

        return ranges;
    }

    private void Write(ReadOnlySpan<byte> bytes)
    {
        stream.Write(bytes);
        _position += bytes.Length;
    }
}
