using System.Buffers.Binary;
using OpenWeights.Formats.Files;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Stored;

/// <summary>Computes the log-probabilities of rows once and writes them to a file for <see cref="LogProbStore"/>.</summary>
internal sealed class LogProbStoreWriter
{
    private readonly LogProbSettings _settings;
    private readonly List<Entry> _rows = [];

    /// <summary>Lists the rows; equal ones once. Their tokens are read again when they are needed.</summary>
    /// <param name="lists">Lists of rows of one document each.</param>
    /// <param name="settings">What is computed.</param>
    internal LogProbStoreWriter(IEnumerable<IReadOnlyList<TokenRow>> lists, LogProbSettings settings)
    {
        _settings = settings;
        var seen = new HashSet<ulong>();
        foreach (var list in lists)
        {
            for (var i = 0; i < list.Count; i++)
            {
                var row = list[i];
                var hash = RowHash.Of(row.Ids, row.Labels);
                if (seen.Add(hash))
                {
                    _rows.Add(new Entry(list, i, hash, row.Ids.Length, row.CountTargets()));
                }
            }
        }

        // Rows of similar length share a micro-batch.
        _rows.Sort(static (a, b) => a.Tokens != b.Tokens ? a.Tokens.CompareTo(b.Tokens) : a.Hash.CompareTo(b.Hash));
    }

    /// <summary>Hashes of the rows, in the order of the file.</summary>
    internal IEnumerable<ulong> Hashes => _rows.Select(static r => r.Hash);

    /// <summary>Number of rows.</summary>
    internal int Rows => _rows.Count;

    /// <summary>Number of targets.</summary>
    internal long Targets => _rows.Sum(static r => (long)r.Targets);

    /// <summary>Size of the file.</summary>
    internal long Bytes => LogProbStore.HeaderBytes + ((long)LogProbStore.EntryBytes * _rows.Count) + (Targets * _settings.TargetBytes);

    /// <summary>Runs the model over all rows, and writes the file as a whole or not at all.</summary>
    /// <param name="path">The file; its folder is created.</param>
    /// <param name="model">The model.</param>
    /// <param name="tokensOfBatch">Tokens of a micro-batch, padding included.</param>
    /// <exception cref="IOException">The file cannot be written.</exception>
    internal void Write(string path, CausalLanguageModel model, int tokensOfBatch)
    {
        _ = Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        AtomicFile.Write(path, stream => Write(stream, model, tokensOfBatch), Bytes);
    }

    private void Write(Stream stream, CausalLanguageModel model, int tokensOfBatch)
    {
        stream.Write(Header());
        for (var start = 0; start < _rows.Count;)
        {
            var count = 1;
            while (start + count < _rows.Count && (count + 1) * _rows[start + count].Tokens <= tokensOfBatch)
            {
                count++;
            }

            using var scope = NewDisposeScope();
            List<TokenRow> batch = [.. _rows.GetRange(start, count).Select(static r => r.List[r.Index])];
            if (batch.Exists(static r => r.CountTargets() > 0))
            {
                Write(stream, StoredTargets.Of(model, batch, _settings));
            }

            start += count;
        }
    }

    private byte[] Header()
    {
        var header = new byte[LogProbStore.HeaderBytes + (LogProbStore.EntryBytes * _rows.Count)];
        LogProbStore.Magic.CopyTo(header);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(8), _rows.Count);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(16), Targets);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(24), _settings.Top);
        var (at, first) = (LogProbStore.HeaderBytes, 0L);
        foreach (var (_, _, hash, _, targets) in _rows)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(header.AsSpan(at), hash);
            BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(at + 8), first);
            (at, first) = (at + LogProbStore.EntryBytes, first + targets);
        }

        return header;
    }

    private void Write(Stream stream, StoredTargets targets)
    {
        var (logProbs, ids, top) = (targets.LogProbs.cpu(), targets.TopIds.to(int32).cpu().contiguous(), targets.TopLogProbs.cpu().contiguous());
        var bytes = new byte[logProbs.size(0) * _settings.TargetBytes];
        var (width, at) = (4 * _settings.Top, 0);
        for (var i = 0; i < logProbs.size(0); i++)
        {
            ids.bytes.Slice(i * width, width).CopyTo(bytes.AsSpan(at));
            top.bytes.Slice(i * width, width).CopyTo(bytes.AsSpan(at + width));
            logProbs.bytes.Slice(i * 4, 4).CopyTo(bytes.AsSpan(at + (2 * width)));
            at += _settings.TargetBytes;
        }

        stream.Write(bytes);
    }

    private readonly record struct Entry(IReadOnlyList<TokenRow> List, int Index, ulong Hash, int Tokens, int Targets);
}
