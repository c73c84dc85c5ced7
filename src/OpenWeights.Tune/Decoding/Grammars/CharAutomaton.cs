using System.Globalization;

namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>A deterministic automaton of characters, without states that lead to no end. State 0 is the first.</summary>
internal sealed class CharAutomaton
{
    internal const int MostStates = 4000;

    private readonly List<List<(CharSet Set, int To)>> _edges;
    private readonly List<bool> _ends;

    private CharAutomaton(List<List<(CharSet Set, int To)>> edges, List<bool> ends) => (_edges, _ends) = (edges, ends);

    /// <summary>All texts.</summary>
    internal static CharAutomaton Everything { get; } = new([[(CharSet.All, 0)]], [true]);

    /// <summary>Number of states.</summary>
    internal int States => _edges.Count;

    /// <summary>Whether it has no text.</summary>
    internal bool IsEmpty => !_ends.Contains(true);

    /// <summary>The edges of a state; their sets do not overlap.</summary>
    internal IReadOnlyList<(CharSet Set, int To)> Edges(int state) => _edges[state];

    /// <summary>Whether a text may end in a state.</summary>
    internal bool IsEnd(int state) => _ends[state];

    /// <summary>The texts of an expression of characters, sequences, choices and repetitions.</summary>
    /// <exception cref="GrammarException">It needs too many states.</exception>
    internal static CharAutomaton Of(GrammarNode node)
    {
        var nfa = new CharNfa();
        var (start, end) = (nfa.Add(), nfa.Add());
        nfa.Emit(node, start, end);
        return Explore(nfa.Closure([start]), set => nfa.Moves(set).Select(m => (m.Set, nfa.Closure(m.To))), set => Array.BinarySearch(set, end) >= 0, static set => string.Join(',', set));
    }

    /// <summary>Texts of a number of characters.</summary>
    internal static CharAutomaton OfLength(int least, int? most) => Explore(0,
        at => most == at ? [] : [(CharSet.All, most is null ? Math.Min(at + 1, least) : at + 1)],
        at => at >= least,
        static at => at.ToString(CultureInfo.InvariantCulture));

    /// <summary>Some texts.</summary>
    internal static CharAutomaton OfTexts(IEnumerable<string> texts) =>
        Of(GrammarNode.AnyOf([.. texts.Select(static t => GrammarNode.Row([.. t.EnumerateRunes().Select(static r => new GrammarNode.Chars(CharSet.One(r.Value)))]))]));

    /// <summary>Texts that end with a part which they have nowhere else; or texts without it.</summary>
    /// <param name="part">The part.</param>
    /// <param name="with">Whether they end with it.</param>
    internal static CharAutomaton Until(string part, bool with)
    {
        var runes = part.EnumerateRunes().Select(static r => r.Value).ToArray();
        return Explore(0, at => at == runes.Length ? [] : Next(at).Where(n => with || n.To < runes.Length), at => with ? at == runes.Length : at < runes.Length, static at => at.ToString(CultureInfo.InvariantCulture));

        IEnumerable<(CharSet, int To)> Next(int at)
        {
            var known = runes.Distinct().ToArray();
            foreach (var rune in known)
            {
                int[] seen = [.. runes[..at], rune];
                var length = Enumerable.Range(0, seen.Length + 1).Last(n => seen.AsSpan(seen.Length - n).SequenceEqual(runes.AsSpan(0, n)));
                yield return (CharSet.One(rune), length);
            }

            yield return (CharSet.Of(known.Select(static r => (r, r))).Not(), 0);
        }
    }

    /// <summary>The texts of both.</summary>
    /// <exception cref="GrammarException">It needs too many states.</exception>
    internal CharAutomaton And(CharAutomaton other) => Explore((A: 0, B: 0),
        s => _edges[s.A].SelectMany(a => other._edges[s.B].Select(b => (a.Set.And(b.Set), (a.To, b.To)))).Where(static e => !e.Item1.IsEmpty),
        s => _ends[s.A] && other._ends[s.B],
        static s => $"{s.A},{s.B}");

    /// <summary>The texts that it does not have.</summary>
    internal CharAutomaton Not() => Explore(0, s => s < 0
            ? [(CharSet.All, -1)]
            : [.. _edges[s], (_edges[s].Aggregate(CharSet.Of(), static (all, e) => all.Or(e.Set)).Not(), -1)],
        s => s < 0 || !_ends[s],
        static s => s.ToString(CultureInfo.InvariantCulture));

    /// <summary>Whether it has a text.</summary>
    internal bool Matches(string text)
    {
        var state = 0;
        foreach (var rune in text.EnumerateRunes())
        {
            var edge = _edges[state].FindIndex(e => e.Set.Contains(rune.Value));
            if (edge < 0)
            {
                return false;
            }

            state = _edges[state][edge].To;
        }

        return _ends[state];
    }

    private static CharAutomaton Explore<TState>(TState first, Func<TState, IEnumerable<(CharSet Set, TState To)>> next, Func<TState, bool> isEnd, Func<TState, string> key)
    {
        var (numbers, states, edges) = (new Dictionary<string, int>(StringComparer.Ordinal) { [key(first)] = 0 }, new List<TState> { first }, new List<List<(CharSet Set, int To)>>());
        for (var i = 0; i < states.Count; i++)
        {
            var made = new List<(CharSet, int)>();
            foreach (var (set, to) in next(states[i]).Where(static e => !e.Set.IsEmpty))
            {
                if (!numbers.TryGetValue(key(to), out var number))
                {
                    numbers[key(to)] = number = states.Count;
                    states.Add(to);
                    if (number > MostStates)
                    {
                        throw new GrammarException($"a pattern or a length is too large to be enforced: it needs more than {MostStates} states; a shorter one or a smaller number would do.");
                    }
                }

                made.Add((set, number));
            }

            edges.Add(made);
        }

        return Trimmed(edges, [.. states.Select(isEnd)]);
    }

    private static CharAutomaton Trimmed(List<List<(CharSet Set, int To)>> edges, List<bool> ends)
    {
        var before = new List<int>[edges.Count];
        for (var i = 0; i < edges.Count; i++)
        {
            before[i] = [];
        }

        for (var i = 0; i < edges.Count; i++)
        {
            foreach (var (_, to) in edges[i])
            {
                before[to].Add(i);
            }
        }

        var (alive, left) = (new bool[edges.Count], new Stack<int>(Enumerable.Range(0, edges.Count).Where(i => ends[i])));
        while (left.TryPop(out var state))
        {
            if (!alive[state])
            {
                alive[state] = true;
                before[state].ForEach(left.Push);
            }
        }

        if (!alive[0])
        {
            return new CharAutomaton([[]], [false]);
        }

        var (number, count) = (new int[edges.Count], 0);
        for (var i = 0; i < edges.Count; i++)
        {
            number[i] = alive[i] ? count++ : -1;
        }

        var kept = Enumerable.Range(0, edges.Count).Where(i => alive[i]).ToList();
        return new CharAutomaton(
            [.. kept.Select(i => edges[i].Where(e => alive[e.To]).GroupBy(e => number[e.To]).Select(static g => (g.Aggregate(CharSet.Of(), static (all, e) => all.Or(e.Set)), g.Key)).ToList())],
            [.. kept.Select(i => ends[i])]);
    }

    // States with edges of sets.
    private sealed class CharNfa() : GrammarNfa(50 * MostStates, "a pattern is too large to be enforced: its repetitions multiply; smaller numbers would do.")
    {
        private readonly List<List<(CharSet Set, int To)>> _edges = [];

        internal IEnumerable<(CharSet Set, IEnumerable<int> To)> Moves(int[] states)
        {
            var edges = states.SelectMany(s => _edges[s]).ToList();
            return CharSet.Parts(edges.Select(static e => e.Set)).Select(part => (part, edges.Where(e => e.Set.Contains(part.Ranges[0].Low)).Select(static e => e.To)));
        }

        protected override void AddOwn() => _edges.Add([]);

        protected override void EmitOwn(GrammarNode node, int from, int to) =>
            _edges[from].Add(node is GrammarNode.Chars chars ? (chars.Set, to) : throw new InvalidOperationException($"{node.GetType().Name} is no expression of characters."));
    }
}
