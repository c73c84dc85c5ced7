namespace OpenWeights.Tokenizers;

/// <summary>A trie over the UTF-8 of tokens, laid out breadth first from the sorted tokens: a node's children are adjacent.</summary>
internal sealed class ByteTrie
{
    private readonly byte[] _labels;
    private readonly int[] _firstChild;
    private readonly int[] _values;
    private readonly int[] _rootChild = new int[256];

    /// <param name="tokens">The tokens, without duplicates, and their values from 0 on.</param>
    public ByteTrie(IEnumerable<(ReadOnlyMemory<byte> Token, int Value)> tokens)
    {
        var sorted = tokens.Where(t => !t.Token.IsEmpty).ToArray();
        Array.Sort(sorted, (a, b) => a.Token.Span.SequenceCompareTo(b.Token.Span));
        var labels = new List<byte> { 0 };
        var values = new List<int> { -1 };
        var firstChild = new List<int>();
        var ranges = new Queue<(int Start, int End, int Depth)>();
        ranges.Enqueue((0, sorted.Length, 0));
        while (ranges.TryDequeue(out var range))
        {
            firstChild.Add(labels.Count);
            for (var i = range.Start; i < range.End;)
            {
                var token = sorted[i].Token.Span;
                if (token.Length == range.Depth)
                {
                    values[firstChild.Count - 1] = sorted[i].Value;
                    i++;
                    continue;
                }

                var label = token[range.Depth];
                var end = i + 1;
                while (end < range.End && sorted[end].Token.Span[range.Depth] == label)
                {
                    end++;
                }

                labels.Add(label);
                values.Add(-1);
                ranges.Enqueue((i, end, range.Depth + 1));
                i = end;
            }
        }

        firstChild.Add(labels.Count);
        _labels = [.. labels];
        _values = [.. values];
        _firstChild = [.. firstChild];
        for (var child = _firstChild[0]; child < _firstChild[1]; child++)
        {
            _rootChild[_labels[child]] = child;
        }
    }

    /// <summary>The trie's root.</summary>
    public const int Root = 0;

    /// <summary>The value of the token that ends at a node, or -1.</summary>
    public int ValueAt(int node) => _values[node];

    /// <summary>The node that a byte leads to, or -1.</summary>
    public int Next(int node, byte label)
    {
        if (node == Root)
        {
            return _rootChild[label] is > 0 and var child ? child : -1;
        }

        var low = _firstChild[node];
        var high = _firstChild[node + 1] - 1;
        while (low <= high)
        {
            var middle = (low + high) >> 1;
            var at = _labels[middle];
            if (at == label)
            {
                return middle;
            }

            if (at < label)
            {
                low = middle + 1;
            }
            else
            {
                high = middle - 1;
            }
        }

        return -1;
    }
}
