namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>States of an expression, of which several can be at a time, with moves that need nothing; what else moves is a kind's own.</summary>
/// <param name="most">Maximum number of states.</param>
/// <param name="tooMany">What is said beyond that.</param>
internal abstract class GrammarNfa(int most, string tooMany)
{
    /// <summary>Where each state leads without anything.</summary>
    protected List<List<int>> Free { get; } = [];

    /// <summary>Adds a state.</summary>
    /// <exception cref="GrammarException">There are too many.</exception>
    internal int Add()
    {
        if (Free.Count > most)
        {
            throw new GrammarException(tooMany);
        }

        Free.Add([]);
        AddOwn();
        return Free.Count - 1;
    }

    /// <summary>Adds an expression between two states.</summary>
    /// <param name="node">The expression.</param>
    /// <param name="from">The state before it.</param>
    /// <param name="to">The state after it.</param>
    internal void Emit(GrammarNode node, int from, int to)
    {
        switch (node)
        {
            case GrammarNode.Sequence row:
                Free[EmitRow(row.Parts, from)].Add(to);
                break;
            case GrammarNode.Choice choice:
                foreach (var one in choice.Choices)
                {
                    Emit(one, from, to);
                }

                break;
            case GrammarNode.Repeat repeat:
                EmitRepeat(repeat, from, to);
                break;
            default:
                EmitOwn(node, from, to);
                break;
        }
    }

    /// <summary>The states that are reached from some without anything, with those themselves.</summary>
    internal int[] Closure(IEnumerable<int> states)
    {
        var (all, left) = (new SortedSet<int>(), new Stack<int>(states));
        while (left.TryPop(out var state))
        {
            if (all.Add(state))
            {
                Free[state].ForEach(left.Push);
            }
        }

        return [.. all];
    }

    /// <summary>Makes room for the own moves of one more state.</summary>
    protected abstract void AddOwn();

    /// <summary>Adds an expression that is neither a sequence, a choice nor a repetition.</summary>
    protected abstract void EmitOwn(GrammarNode node, int from, int to);

    // One expression after the other; the state after the last.
    private int EmitRow(IEnumerable<GrammarNode> parts, int from)
    {
        foreach (var part in parts)
        {
            var next = Add();
            Emit(part, from, next);
            from = next;
        }

        return from;
    }

    private void EmitRepeat(GrammarNode.Repeat repeat, int from, int to)
    {
        from = EmitRow(Enumerable.Repeat(repeat.Part, repeat.Least), from);
        if (repeat.Most is null)
        {
            var loop = Add();
            Free[from].Add(loop);
            Emit(repeat.Part, loop, loop);
            Free[loop].Add(to);
            return;
        }

        for (var i = repeat.Least; i < repeat.Most; i++)
        {
            Free[from].Add(to);
            from = EmitRow([repeat.Part], from);
        }

        Free[from].Add(to);
    }
}
