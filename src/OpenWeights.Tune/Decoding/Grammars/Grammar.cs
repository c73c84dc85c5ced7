using System.Collections.Concurrent;

namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>
/// What a text may be: made by <see cref="JsonGrammar"/> or <see cref="GbnfGrammar"/>, enforced by a <see cref="GrammarConstraint"/>. It keeps
/// what it has learned, so it pays to use one grammar for many texts. Safe for use by several threads.
/// </summary>
internal sealed class Grammar
{
    // Beyond that many, texts that begin get states of their own; those that are under way keep theirs.
    private const int MostStates = 100_000;

    private readonly Lock _lock = new();
    private readonly RuleNetwork _network;
    private readonly ConcurrentDictionary<string, Grammar> _larger = new(StringComparer.Ordinal);
    private GrammarStates _states;

    /// <summary>Compiles a grammar.</summary>
    /// <exception cref="GrammarException">It cannot be enforced.</exception>
    internal Grammar(GrammarNode root)
    {
        Root = root;
        _network = RuleNetwork.Of(new GrammarRule("root") { Body = root });
        _states = new GrammarStates(_network);
    }

    /// <summary>The expression of the whole text.</summary>
    internal GrammarNode Root { get; }

    /// <summary>Whether a text is one of the grammar.</summary>
    /// <param name="text">The text.</param>
    public bool Matches(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var states = States();
        lock (states)
        {
            return states.Next(states.First, System.Text.Encoding.UTF8.GetBytes(text)) is { Ends: true };
        }
    }

    /// <summary>A grammar with this one as a part; the same is made once.</summary>
    /// <param name="key">What tells it from others of this grammar.</param>
    /// <param name="make">Makes its expression of this one's.</param>
    internal Grammar Larger(string key, Func<GrammarNode, GrammarNode> make) => _larger.GetOrAdd(key, _ => new Grammar(make(Root)));

    /// <summary>The states for a new text.</summary>
    internal GrammarStates States()
    {
        lock (_lock)
        {
            var states = _states;
            lock (states)
            {
                return states.Count > MostStates ? _states = new GrammarStates(_network) : states;
            }
        }
    }
}
