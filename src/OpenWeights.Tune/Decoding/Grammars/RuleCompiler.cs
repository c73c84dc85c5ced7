using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>Makes deterministic automata of rules; a call of a rule counts as a letter.</summary>
internal sealed class RuleCompiler
{
    private const int MostNodes = 400_000;

    private readonly Dictionary<CharSet, GrammarRule> _inJson = [];
    private readonly Queue<GrammarRule> _waiting = [];

    /// <summary>The nodes of all rules.</summary>
    internal List<CompiledNode> Nodes { get; } = [];

    /// <summary>The first node of each rule.</summary>
    internal Dictionary<GrammarRule, int> Starts { get; } = [];

    /// <summary>Compiles a rule and all that it refers to.</summary>
    /// <returns>Its first node.</returns>
    internal int Add(GrammarRule root)
    {
        Require(root);
        while (_waiting.TryDequeue(out var rule))
        {
            Compile(rule);
        }

        return Starts[root];
    }

    private void Require(GrammarRule rule)
    {
        if (Starts.TryAdd(rule, -1))
        {
            _waiting.Enqueue(rule);
        }
    }

    private void Compile(GrammarRule rule)
    {
        var nfa = new Nfa(this);
        var (start, end) = (nfa.Add(), nfa.Add());
        nfa.Emit(rule.Body, start, end);
        var (numbers, sets) = (new Dictionary<IntsKey, int>(), new List<int[]>());
        var first = Nodes.Count;
        Starts[rule] = Number(nfa.Closure([start]));
        for (var i = 0; i < sets.Count; i++)
        {
            var set = sets[i];
            var edges = Moves(nfa, set).Select(m => (m.Set, Number(nfa.Closure(m.To)))).GroupBy(static m => m.Item2).Select(static g => (g.Aggregate(default(ByteSet), static (all, m) => all | m.Set), g.Key)).ToList();
            var calls = set.SelectMany(s => nfa.Calls[s]).GroupBy(static c => c.Rule).Select(g => (g.Key, Number(nfa.Closure(g.Select(static c => c.To))))).ToList();
            Nodes[first + i] = new CompiledNode(edges, calls, Array.BinarySearch(set, end) >= 0);
        }

        int Number(int[] set)
        {
            if (!numbers.TryGetValue(new IntsKey(set), out var number))
            {
                numbers[new IntsKey(set)] = number = first + sets.Count;
                sets.Add(set);
                Nodes.Add(new CompiledNode([], [], false));
                if (Nodes.Count > MostNodes)
                {
                    throw new GrammarException("the grammar is too large to be enforced; smaller lengths and counts, or fewer alternatives, would do.");
                }
            }

            return number;
        }
    }

    // Sets of bytes that lead to the same states, without overlaps.
    private static IEnumerable<(ByteSet Set, IEnumerable<int> To)> Moves(Nfa nfa, int[] states)
    {
        var edges = states.SelectMany(s => nfa.Edges[s]).ToList();
        var left = edges.Aggregate(default(ByteSet), static (all, e) => all | e.Set);
        while (!left.IsEmpty)
        {
            var value = left.First;
            var part = edges.Aggregate(left, (set, e) => set & (e.Set.Contains(value) ? e.Set : ~e.Set));
            yield return (part, edges.Where(e => e.Set.Contains(value)).Select(static e => e.To));
            left &= ~part;
        }
    }

    private GrammarRule InJson(CharSet set)
    {
        if (!_inJson.TryGetValue(set, out var rule))
        {
            _inJson[set] = rule = new GrammarRule("a character") { Body = CharEncoding.Json(set) };
        }

        return rule;
    }

    private readonly record struct IntsKey(int[] Values)
    {
        public bool Equals(IntsKey other) => Values.AsSpan().SequenceEqual(other.Values);

        public override int GetHashCode()
        {
            var hash = default(HashCode);
            hash.AddBytes(MemoryMarshal.AsBytes(Values.AsSpan()));
            return hash.ToHashCode();
        }
    }

    // States with edges of bytes, and calls of rules.
    private sealed class Nfa(RuleCompiler compiler) : GrammarNfa(4 * MostNodes, "the grammar is too large to be enforced: its repetitions multiply; smaller lengths and counts would do.")
    {
        internal List<List<(ByteSet Set, int To)>> Edges { get; } = [];

        internal List<List<(GrammarRule Rule, int To)>> Calls { get; } = [];

        protected override void AddOwn()
        {
            Edges.Add([]);
            Calls.Add([]);
        }

        protected override void EmitOwn(GrammarNode node, int from, int to)
        {
            switch (node)
            {
                case GrammarNode.Bytes bytes:
                    Edges[from].Add((bytes.Set, to));
                    break;
                case GrammarNode.Chars chars:
                    Emit(CharEncoding.Utf8(chars.Set), from, to);
                    break;
                case GrammarNode.Call call:
                    compiler.Require(call.Rule);
                    Calls[from].Add((call.Rule, to));
                    break;
                default:
                    EmitTexts((GrammarNode.Texts)node, from, to);
                    break;
            }
        }

        // Few states are written out, which is fast; many share rules of their characters, which is small.
        private void EmitTexts(GrammarNode.Texts texts, int from, int to)
        {
            var states = Enumerable.Range(0, texts.Automaton.States).Select(_ => Add()).ToArray();
            Free[from].Add(states[0]);
            for (var i = 0; i < states.Length; i++)
            {
                foreach (var (set, next) in texts.Automaton.Edges(i))
                {
                    Emit(!texts.InJson ? new GrammarNode.Chars(set) : states.Length <= 4 ? CharEncoding.Json(set) : new GrammarNode.Call(compiler.InJson(set)), states[i], states[next]);
                }

                if (texts.Automaton.IsEnd(i))
                {
                    Free[states[i]].Add(to);
                }
            }
        }
    }
}

/// <summary>A node of a compiled rule.</summary>
/// <param name="Edges">Sets of bytes, without overlaps, and where they lead.</param>
/// <param name="Calls">Rules that it calls, and where each call returns to.</param>
/// <param name="Ends">Whether the rule may end here.</param>
internal sealed record CompiledNode(List<(ByteSet Set, int To)> Edges, List<(GrammarRule Rule, int To)> Calls, bool Ends);
