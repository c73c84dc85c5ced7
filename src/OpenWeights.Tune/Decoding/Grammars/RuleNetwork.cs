namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>
/// The rules of a grammar as automata of bytes that call one another. Each node has at most one edge for a byte, may call rules, and may end its rule.
/// Bytes that no node distinguishes are one class.
/// </summary>
internal sealed class RuleNetwork
{
    private RuleNetwork(byte[] classes, int classCount, NetworkNode[] nodes, int root) => (ClassOf, Classes, Nodes, Root) = (classes, classCount, nodes, root);

    /// <summary>The class of each byte.</summary>
    internal byte[] ClassOf { get; }

    /// <summary>Number of classes.</summary>
    internal int Classes { get; }

    /// <summary>The nodes of all rules.</summary>
    internal NetworkNode[] Nodes { get; }

    /// <summary>The first node of the first rule.</summary>
    internal int Root { get; }

    /// <summary>Compiles a rule and those that it refers to.</summary>
    /// <param name="root">The rule.</param>
    /// <exception cref="GrammarException">It is too large, begins with itself, or has no text at all.</exception>
    internal static RuleNetwork Of(GrammarRule root)
    {
        var compiler = new RuleCompiler();
        var start = compiler.Add(root);
        var rules = compiler.Nodes;
        RequireNoLeftRecursion(compiler);
        var alive = Productive(rules, compiler.Starts);
        if (!alive[start])
        {
            throw new GrammarException("no text can satisfy the grammar: what it requires excludes itself, or never ends.");
        }

        var (classes, count) = Classify(rules);
        var examples = Enumerable.Range(0, count).Select(c => (Class: (byte)c, Byte: Array.IndexOf(classes, (byte)c))).ToArray();
        var nodes = new NetworkNode[rules.Count];
        for (var i = 0; i < nodes.Length; i++)
        {
            var edges = rules[i].Edges.Where(e => alive[e.To]).SelectMany(e => examples.Where(c => e.Set.Contains(c.Byte)).Select(c => (c.Class, e.To))).ToArray();
            var calls = rules[i].Calls.Select(c => (compiler.Starts[c.Rule], c.To)).Where(c => alive[c.Item1] && alive[c.To]).ToArray();
            nodes[i] = new NetworkNode(edges, calls, rules[i].Ends);
        }

        return new RuleNetwork(classes, count, nodes, start);
    }

    // Nodes from which their rule can end.
    private static bool[] Productive(List<CompiledNode> nodes, Dictionary<GrammarRule, int> starts)
    {
        var (alive, changed) = (new bool[nodes.Count], true);
        while (changed)
        {
            changed = false;
            for (var i = nodes.Count - 1; i >= 0; i--)
            {
                if (!alive[i] && (nodes[i].Ends || nodes[i].Edges.Exists(e => alive[e.To]) || nodes[i].Calls.Exists(c => alive[starts[c.Rule]] && alive[c.To])))
                {
                    changed = alive[i] = true;
                }
            }
        }

        return alive;
    }

    // A rule that begins with itself would be entered again and again without a byte read.
    private static void RequireNoLeftRecursion(RuleCompiler compiler)
    {
        var nullable = Nullable(compiler);
        var firsts = compiler.Starts.ToDictionary(static s => s.Key, s => Reached(compiler, s.Value, nullable).SelectMany(n => compiler.Nodes[n].Calls).Select(static c => c.Rule).ToHashSet());
        var done = new HashSet<GrammarRule>();
        foreach (var rule in firsts.Keys)
        {
            Visit(rule, []);
        }

        void Visit(GrammarRule rule, HashSet<GrammarRule> above)
        {
            if (!above.Add(rule))
            {
                throw new GrammarException($"the rule \"{rule.Name}\" begins with itself; write it so that something comes before the repetition, or use *.");
            }

            if (done.Add(rule))
            {
                foreach (var next in firsts[rule])
                {
                    Visit(next, above);
                }
            }

            _ = above.Remove(rule);
        }
    }

    private static HashSet<GrammarRule> Nullable(RuleCompiler compiler)
    {
        var nullable = new HashSet<GrammarRule>();
        while (compiler.Starts.Where(s => !nullable.Contains(s.Key) && Reached(compiler, s.Value, nullable).Exists(n => compiler.Nodes[n].Ends)).Select(static s => s.Key).ToList() is { Count: > 0 } found)
        {
            nullable.UnionWith(found);
        }

        return nullable;
    }

    // The nodes that are reached from one without a byte.
    private static List<int> Reached(RuleCompiler compiler, int start, HashSet<GrammarRule> nullable)
    {
        var (seen, reached) = (new HashSet<int> { start }, new List<int> { start });
        for (var i = 0; i < reached.Count; i++)
        {
            reached.AddRange(compiler.Nodes[reached[i]].Calls.Where(c => nullable.Contains(c.Rule) && seen.Add(c.To)).Select(static c => c.To));
        }

        return reached;
    }

    private static (byte[] Classes, int Count) Classify(List<CompiledNode> nodes)
    {
        var classes = new List<ByteSet> { ByteSet.Range(0, 255) };
        foreach (var set in nodes.SelectMany(static n => n.Edges).Select(static e => e.Set).Distinct())
        {
            classes = [.. classes.SelectMany(c => new[] { c & set, c & ~set }).Where(static c => !c.IsEmpty)];
        }

        var of = new byte[256];
        for (var i = 0; i < 256; i++)
        {
            of[i] = (byte)classes.FindIndex(c => c.Contains(i));
        }

        return (of, classes.Count);
    }
}

/// <summary>A node of a network.</summary>
/// <param name="Edges">Where each class of bytes leads.</param>
/// <param name="Calls">The first nodes of the rules that it calls, and where each call returns to.</param>
/// <param name="Ends">Whether its rule may end here.</param>
internal sealed record NetworkNode((byte Class, int To)[] Edges, (int Start, int Return)[] Calls, bool Ends)
{
    /// <summary>Whether nothing but the rule's end follows.</summary>
    internal bool OnlyEnds { get; } = Ends && Edges.Length == 0 && Calls.Length == 0;
}
