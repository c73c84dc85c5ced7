using System.Runtime.CompilerServices;
using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>Reads the merges of a BPE model and resolves them to ids.</summary>
internal sealed class MergesReader
{
    private readonly Vocabulary _vocabulary;
    private readonly int _prefixLength;
    private readonly Func<string, InvalidDataException> _error;
    private readonly PairTable _pairs = new(1 << 15);
    private byte[] _joined = new byte[256];
    private byte[] _left = new byte[256];
    private int _lastMerged = -1;

    /// <param name="vocabulary">The tokens.</param>
    /// <param name="prefix">The <c>continuing_subword_prefix</c>, which the right part of a merge loses.</param>
    /// <param name="error">Makes the error for a sentence.</param>
    public MergesReader(Vocabulary vocabulary, string prefix, Func<string, InvalidDataException> error)
    {
        _vocabulary = vocabulary;
        _prefixLength = Encoding.UTF8.GetByteCount(prefix);
        _error = error;
    }

    /// <summary>Reads an array of "left right" strings or of [left, right] pairs.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public PairTable Read(ref JsonCursor cursor)
    {
        if (!cursor.TryTake('['))
        {
            throw _error("must be an array of merges.");
        }

        for (var isFirst = true; cursor.Next(']', ref isFirst);)
        {
            if (cursor.Peek() == (byte)'"')
            {
                AddLine(cursor.TakeString());
                continue;
            }

            if (!cursor.TryTake('[') || cursor.Peek() != (byte)'"')
            {
                throw Malformed();
            }

            // The second string may overwrite the first where that was escaped.
            var left = cursor.TakeString();
            if (_left.Length < left.Length)
            {
                _left = new byte[left.Length * 2];
            }

            left.CopyTo(_left);
            if (!cursor.TryTake(',') || cursor.Peek() != (byte)'"')
            {
                throw Malformed();
            }

            Add(_left.AsSpan(0, left.Length), cursor.TakeString());
            if (!cursor.TryTake(']'))
            {
                throw Malformed();
            }
        }

        return _pairs.Complete();
    }

    /// <summary>Reads the lines of a merges.txt.</summary>
    public PairTable ReadLines(ReadOnlySpan<byte> text)
    {
        foreach (var range in text.Split((byte)'\n'))
        {
            var line = text[range];
            line = line.EndsWith("\r"u8) ? line[..^1] : line;
            if (line.Length > 0)
            {
                AddLine(line);
            }
        }

        return _pairs.Complete();
    }

    private InvalidDataException Malformed() => _error($"merge {_pairs.Count} must be \"left right\" or [\"left\", \"right\"].");

    private void AddLine(ReadOnlySpan<byte> line)
    {
        if (line.StartsWith("#version"u8))
        {
            return;
        }

        var space = line.IndexOf((byte)' ');
        if (space < 0 || line[(space + 1)..].Contains((byte)' '))
        {
            throw _error($"merge {_pairs.Count} is {Vocabulary.Show(line)}; it must have one space, between its two parts.");
        }

        Add(line[..space], line[(space + 1)..]);
    }

    private void Add(ReadOnlySpan<byte> left, ReadOnlySpan<byte> right)
    {
        var leftId = Resolve(left, left, right);
        var rightId = Resolve(right, left, right);
        if (right.Length < _prefixLength)
        {
            throw _error($"merge {_pairs.Count}: {Vocabulary.Show(right)} is shorter than the continuing_subword_prefix.");
        }

        var rest = right[_prefixLength..];
        if (_joined.Length < left.Length + rest.Length)
        {
            _joined = new byte[(left.Length + rest.Length) * 2];
        }

        left.CopyTo(_joined);
        rest.CopyTo(_joined.AsSpan(left.Length));
        var joined = _joined.AsSpan(0, left.Length + rest.Length);

        // As a rule a merge's token has the id after the one before, or the same one again; that saves most look-ups.
        _lastMerged = IsToken(_lastMerged + 1, joined) ? _lastMerged + 1
            : IsToken(_lastMerged, joined) ? _lastMerged
            : Resolve(joined, left, right);
        _pairs.Add(leftId, rightId, _lastMerged);
    }

    private bool IsToken(int id, ReadOnlySpan<byte> token) => _vocabulary.Contains(id) && _vocabulary[id].SequenceEqual(token);

    private int Resolve(ReadOnlySpan<byte> token, ReadOnlySpan<byte> left, ReadOnlySpan<byte> right)
    {
        var id = _vocabulary.Find(token);
        return id >= 0
            ? id
            : throw _error($"merge {_pairs.Count} ({Vocabulary.Show(left)} with {Vocabulary.Show(right)}) needs the token {Vocabulary.Show(token)}, which the vocabulary does not have.");
    }
}
