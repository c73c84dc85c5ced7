using System.Buffers;

namespace OpenWeights.Tokenizers;

/// <summary>Finds added tokens in a text: from left to right, the longest of those that begin at a place, none overlapping.</summary>
internal sealed class AddedTokenMatcher
{
    private readonly Dictionary<long, int> _edges = [];
    private readonly List<AddedToken?> _tokens = [null];
    private readonly SearchValues<char> _firstCharacters;

    /// <param name="patterns">Texts to find, and their tokens. Of equal texts the last one is used.</param>
    public AddedTokenMatcher(IEnumerable<(string Pattern, AddedToken Token)> patterns)
    {
        foreach (var (pattern, token) in patterns)
        {
            Insert(pattern, token);
        }

        _firstCharacters = SearchValues.Create([.. _edges.Keys.Where(k => k >> 16 == 0).Select(k => (char)k)]);
    }

    /// <summary>Whether there is nothing to find.</summary>
    public bool IsEmpty => _tokens.Count == 1;

    /// <summary>Begins to take a text apart.</summary>
    public Parts In(ReadOnlySpan<char> text) => new(this, text);

    /// <summary>A part of a text: a token, or text between tokens.</summary>
    public readonly record struct Part(int Start, int End, AddedToken? Token);

    /// <summary>
    /// The parts of a text, in order and without empty ones, as <c>find_matches</c> of the reference has them: a token takes along the
    /// white space that it strips.
    /// </summary>
    public ref struct Parts(AddedTokenMatcher matcher, ReadOnlySpan<char> text)
    {
        private readonly ReadOnlySpan<char> _text = text;
        private int _start;
        private int _searched;
        private Part _pending;

        /// <summary>The part.</summary>
        public Part Current { get; private set; }

        /// <summary>For <c>foreach</c>.</summary>
        public readonly Parts GetEnumerator() => this;

        /// <summary>Goes to the next part.</summary>
        public bool MoveNext()
        {
            if (_pending.Token is not null)
            {
                Current = _pending;
                _pending = default;
                return true;
            }

            while (matcher.Find(_text, _searched, out var from, out var to) is { } token)
            {
                _searched = to;
                if (token.SingleWord && !StandsAlone(_text, from, to))
                {
                    continue;
                }

                var (begin, end) = Stripped(token, from, to);
                var before = new Part(_start, begin, null);
                var part = new Part(begin, end, token);
                _start = end;
                if (before.Start < before.End)
                {
                    _pending = begin < end ? part : default;
                    Current = before;
                    return true;
                }

                // White space that an earlier token took along can hold the whole of a later one.
                if (begin < end)
                {
                    Current = part;
                    return true;
                }
            }

            _searched = _text.Length;
            Current = new Part(_start, _text.Length, null);
            _start = _text.Length;
            return Current.Start < Current.End;
        }

        /// <summary>A token's range with the white space that it strips. White space that an earlier token took along is not gone through again.</summary>
        private readonly (int Begin, int End) Stripped(AddedToken token, int from, int to)
        {
            var begin = token.StripLeft ? _start + WordCharacters.StartOfTrailingSpace(_text[Math.Min(_start, from)..from]) : from;
            if (token.StripRight)
            {
                to = Math.Max(to, _start);
                to += WordCharacters.EndOfLeadingSpace(_text[to..]);
            }

            return (begin, to);
        }
    }

    private static bool StandsAlone(ReadOnlySpan<char> text, int from, int to) =>
        !WordCharacters.EndsWithWord(text[..from]) && !WordCharacters.StartsWithWord(text[to..]);

    private AddedToken? Find(ReadOnlySpan<char> text, int start, out int from, out int to)
    {
        for (from = start; from < text.Length; from++)
        {
            var skipped = text[from..].IndexOfAny(_firstCharacters);
            if (skipped < 0)
            {
                break;
            }

            from += skipped;
            if (Longest(text, from, out to) is { } token)
            {
                return token;
            }
        }

        to = text.Length;
        return null;
    }

    /// <summary>The longest pattern that begins at a place, and where it ends; null where none does.</summary>
    public AddedToken? Longest(ReadOnlySpan<char> text, int from, out int to)
    {
        AddedToken? longest = null;
        to = from;
        var node = 0;
        for (var i = from; i < text.Length && _edges.TryGetValue(Edge(node, text[i]), out node); i++)
        {
            if (_tokens[node] is { } token)
            {
                longest = token;
                to = i + 1;
            }
        }

        return longest;
    }

    private void Insert(string pattern, AddedToken token)
    {
        if (pattern.Length == 0)
        {
            return;
        }

        var node = 0;
        foreach (var character in pattern)
        {
            if (!_edges.TryGetValue(Edge(node, character), out var next))
            {
                next = _tokens.Count;
                _edges.Add(Edge(node, character), next);
                _tokens.Add(null);
            }

            node = next;
        }

        _tokens[node] = token;
    }

    private static long Edge(int node, char character) => ((long)node << 16) | character;
}
