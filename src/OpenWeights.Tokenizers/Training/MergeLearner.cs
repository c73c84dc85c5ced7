using System.Runtime.InteropServices;
using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>The words of a training text as symbols, and how often each pair of neighbours occurs, kept up to date merge by merge.</summary>
internal sealed class MergeLearner
{
    private readonly List<Word> _words = [];
    private readonly Dictionary<(int Left, int Right), Occurrences> _pairs = [];
    private readonly PriorityQueue<(int Left, int Right), (long Count, int Left, int Right)> _queue = new();
    private readonly int _firstByteId;
    private readonly int _minimumCount;

    /// <param name="counts">The words and how often they occur.</param>
    /// <param name="firstByteId">The id of the byte whose character comes first; smaller ids are special tokens.</param>
    /// <param name="minimumCount">Pairs that occur less often are not merged.</param>
    public MergeLearner(Dictionary<string, long> counts, int firstByteId, int minimumCount)
    {
        _firstByteId = firstByteId;
        _minimumCount = minimumCount;
        var ids = new int[256];
        var order = Enumerable.Range(0, 256).OrderBy(b => ByteLevelAlphabet.CharacterOf((byte)b)).ToArray();
        for (var i = 0; i < 256; i++)
        {
            ids[order[i]] = firstByteId + i;
        }

        foreach (var (text, count) in counts)
        {
            _words.Add(new Word([.. Encoding.UTF8.GetBytes(text).Select(b => ids[b])], count));
            Count(_words.Count - 1, +1);
        }

        foreach (var (pair, occurrences) in _pairs)
        {
            _queue.Enqueue(pair, (-occurrences.Count, pair.Left, pair.Right));
        }
    }

    private sealed class Word(List<int> symbols, long count)
    {
        public List<int> Symbols { get; } = symbols;

        public long Count { get; } = count;
    }

    private sealed class Occurrences
    {
        public long Count { get; set; }

        /// <summary>Words that have, or had, the pair.</summary>
        public HashSet<int> Words { get; } = [];
    }

    /// <summary>Merges the most frequent pair.</summary>
    /// <param name="tokens">The tokens by id; a new one is added.</param>
    /// <param name="ids">Their ids.</param>
    /// <param name="merge">The pair.</param>
    /// <returns>False where no pair is frequent enough.</returns>
    public bool TryMerge(List<string> tokens, Dictionary<string, int> ids, out (string Left, string Right) merge)
    {
        while (_queue.TryDequeue(out var pair, out var priority))
        {
            var occurrences = _pairs[pair];
            if (occurrences.Count != -priority.Count)
            {
                // The pair has become rarer or more frequent since it was put in line.
                if (occurrences.Count > 0)
                {
                    _queue.Enqueue(pair, (-occurrences.Count, pair.Left, pair.Right));
                }

                continue;
            }

            if (occurrences.Count < _minimumCount)
            {
                break;
            }

            var (left, right) = (tokens[pair.Left], tokens[pair.Right]);

            // Another pair may have made the same token before. Text that looks like a special token must not become it.
            if (!ids.TryGetValue(left + right, out var merged))
            {
                merged = tokens.Count;
                tokens.Add(left + right);
                ids.Add(left + right, merged);
            }
            else if (merged < _firstByteId)
            {
                continue;
            }

            Merge(pair, occurrences, merged);
            merge = (left, right);
            return true;
        }

        merge = default;
        return false;
    }

    private void Merge((int Left, int Right) pair, Occurrences occurrences, int merged)
    {
        var changed = new HashSet<(int, int)>();
        foreach (var index in occurrences.Words)
        {
            Count(index, -1);
            var symbols = CollectionsMarshal.AsSpan(_words[index].Symbols);
            var kept = 0;
            for (var i = 0; i < symbols.Length; i++)
            {
                var merges = i + 1 < symbols.Length && symbols[i] == pair.Left && symbols[i + 1] == pair.Right;
                symbols[kept++] = merges ? merged : symbols[i];
                i += merges ? 1 : 0;
            }

            _words[index].Symbols.RemoveRange(kept, symbols.Length - kept);
            Count(index, +1);
            AddPairsWith(merged, _words[index].Symbols, changed);
        }

        foreach (var (left, right) in changed)
        {
            _queue.Enqueue((left, right), (-_pairs[(left, right)].Count, left, right));
        }
    }

    private static void AddPairsWith(int symbol, List<int> symbols, HashSet<(int, int)> pairs)
    {
        for (var i = 0; i + 1 < symbols.Count; i++)
        {
            if (symbols[i] == symbol || symbols[i + 1] == symbol)
            {
                _ = pairs.Add((symbols[i], symbols[i + 1]));
            }
        }
    }

    /// <summary>Adds a word's pairs to the counts, or takes them away.</summary>
    private void Count(int index, int sign)
    {
        var word = _words[index];
        for (var i = 0; i + 1 < word.Symbols.Count; i++)
        {
            var pair = (word.Symbols[i], word.Symbols[i + 1]);
            if (!_pairs.TryGetValue(pair, out var occurrences))
            {
                _pairs.Add(pair, occurrences = new Occurrences());
            }

            occurrences.Count += sign * word.Count;
            if (sign > 0)
            {
                _ = occurrences.Words.Add(index);
            }
        }
    }
}
