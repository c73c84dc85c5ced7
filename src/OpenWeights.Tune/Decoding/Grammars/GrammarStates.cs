using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>
/// The states that texts of a grammar can be in, made as they are reached. A state is a set of places in rules, each with the rules that
/// called it. Not thread-safe: whoever uses it locks it.
/// </summary>
internal sealed class GrammarStates
{
    private const int MostPlaces = 4096;
    private const int MostMasks = 512;

    // The place of a call that is not known.
    private const int Unknown = 1;

    private readonly RuleNetwork _network;
    private readonly Dictionary<(int Return, int Parent), int> _calls = [];
    private readonly List<(int Return, int Parent)> _stack = [(-1, -1), (-1, -1)];
    private readonly Dictionary<PlacesKey, GrammarState> _states = [];
    private readonly Queue<GrammarState> _masked = [];
    private readonly Dictionary<int, RuleMask> _ofNodes = [];
    private readonly HashSet<long> _seen = [];
    private readonly Stack<long> _left = [];
    private readonly List<long> _places = [];
    private TokenVocabulary? _vocabulary;
    private bool _ends;
    private bool _leaves;

    /// <summary>Creates the states of a grammar.</summary>
    internal GrammarStates(RuleNetwork network)
    {
        _network = network;
        Begin();
        Reach(network.Root, 0);
        First = Made();
    }

    /// <summary>The state of the empty text.</summary>
    internal GrammarState First { get; }

    /// <summary>Number of states and calls so far.</summary>
    internal int Count => _states.Count + _stack.Count;

    /// <summary>The state after another byte; null if it cannot come.</summary>
    internal GrammarState? Next(GrammarState state, byte value)
    {
        var number = _network.ClassOf[value];
        if (!state.Known[number])
        {
            state.Next[number] = Step(state, number);
            state.Known[number] = true;
        }

        return state.Next[number];
    }

    /// <summary>The state after more bytes; null if they cannot come.</summary>
    internal GrammarState? Next(GrammarState state, ReadOnlySpan<byte> bytes)
    {
        GrammarState? at = state;
        for (var i = 0; i < bytes.Length && at is not null; i++)
        {
            at = Next(at, bytes[i]);
        }

        return at;
    }

    /// <summary>The tokens that can come next, a bit for each.</summary>
    internal ulong[] Mask(GrammarState state, TokenVocabulary vocabulary)
    {
        if (state.Mask is { } known && state.MaskedFor == vocabulary)
        {
            return known;
        }

        if (_masked.Count >= MostMasks)
        {
            _masked.Dequeue().Mask = null;
        }

        if (_vocabulary != vocabulary || _ofNodes.Count > MostMasks)
        {
            _ofNodes.Clear();
            _vocabulary = vocabulary;
        }

        // What a token does within the rule of a place is the same whatever called the rule, and most tokens stay within it.
        var masks = state.Places.Select(p => OfNode((int)(p >> 32), vocabulary)).Distinct().ToList();
        _masked.Enqueue(state);
        state.MaskedFor = vocabulary;
        return state.Mask = vocabulary.Together(this, state, masks);
    }

    /// <summary>Class of a byte.</summary>
    internal byte ClassOf(byte value) => _network.ClassOf[value];

    private RuleMask OfNode(int node, TokenVocabulary vocabulary)
    {
        if (!_ofNodes.TryGetValue(node, out var mask))
        {
            Begin();
            _places.Add(((long)node << 32) | Unknown);
            _ofNodes[node] = mask = vocabulary.Within(this, Made());
        }

        return mask;
    }

    private GrammarState? Step(GrammarState state, byte number)
    {
        Begin();
        foreach (var place in state.Places)
        {
            foreach (var (of, to) in _network.Nodes[(int)(place >> 32)].Edges)
            {
                if (of == number)
                {
                    Reach(to, (int)place);
                    break;
                }
            }
        }

        return _places.Count == 0 && !_ends && !_leaves ? null : Made();
    }

    private void Begin()
    {
        _seen.Clear();
        _places.Clear();
        (_ends, _leaves) = (false, false);
    }

    // Adds a place, and those that follow it without a byte.
    private void Reach(int node, int stack)
    {
        Push(node, stack);
        while (_left.TryPop(out var place))
        {
            var (at, above) = ((int)(place >> 32), (int)place);
            var from = _network.Nodes[at];
            if (from.Edges.Length > 0)
            {
                _places.Add(place);
            }

            if (from.Ends)
            {
                if (above == 0)
                {
                    _ends = true;
                }
                else if (above == Unknown)
                {
                    _leaves = true;
                }
                else
                {
                    Push(_stack[above].Return, _stack[above].Parent);
                }
            }

            foreach (var (start, back) in from.Calls)
            {
                Push(start, _network.Nodes[back].OnlyEnds ? above : Called(back, above));
            }
        }
    }

    private void Push(int node, int stack)
    {
        var place = ((long)node << 32) | (uint)stack;
        if (_seen.Add(place))
        {
            _left.Push(place);
            if (_seen.Count > MostPlaces)
            {
                _left.Clear();
                throw new GrammarException("the grammar is too ambiguous to be enforced: a text has too many readings at once.");
            }
        }
    }

    private int Called(int back, int parent)
    {
        ref var call = ref CollectionsMarshal.GetValueRefOrAddDefault(_calls, (back, parent), out var exists);
        if (!exists)
        {
            call = _stack.Count;
            _stack.Add((back, parent));
        }

        return call;
    }

    private GrammarState Made()
    {
        _places.Sort();
        var key = new PlacesKey([.. _places], _ends, _leaves);
        if (!_states.TryGetValue(key, out var state))
        {
            _states[key] = state = new GrammarState(key.Places, _ends, _leaves, _network.Classes);
        }

        return state;
    }

    private readonly record struct PlacesKey(long[] Places, bool Ends, bool Leaves)
    {
        public bool Equals(PlacesKey other) => Ends == other.Ends && Leaves == other.Leaves && Places.AsSpan().SequenceEqual(other.Places);

        public override int GetHashCode()
        {
            var hash = default(HashCode);
            hash.AddBytes(MemoryMarshal.AsBytes(Places.AsSpan()));
            return hash.ToHashCode();
        }
    }
}

/// <summary>A state of a text.</summary>
/// <param name="places">Nodes (the upper half of each number) with the calls above them (the lower half).</param>
/// <param name="ends">Whether the text may end.</param>
/// <param name="leaves">Whether a rule may end whose caller is not known.</param>
/// <param name="classes">Number of classes of bytes.</param>
internal sealed class GrammarState(long[] places, bool ends, bool leaves, int classes)
{
    internal long[] Places => places;

    /// <summary>Whether the text may end.</summary>
    internal bool Ends => ends;

    /// <summary>Whether a rule may end whose caller is not known, so that what follows is not known either.</summary>
    internal bool Leaves => leaves;

    /// <summary>Whether the text can go on.</summary>
    internal bool GoesOn => places.Length > 0;

    /// <summary>The states that follow, by classes of bytes, where known.</summary>
    internal GrammarState?[] Next { get; } = new GrammarState?[classes];

    internal bool[] Known { get; } = new bool[classes];

    internal ulong[]? Mask { get; set; }

    internal TokenVocabulary? MaskedFor { get; set; }
}

/// <summary>What tokens do within a rule.</summary>
/// <param name="Allowed">The tokens that can follow, a bit for each.</param>
/// <param name="Leaving">Places in the tree of tokens after which the rule may have ended, so that what is below them depends on its caller.</param>
internal sealed record RuleMask(ulong[] Allowed, int[] Leaving);
