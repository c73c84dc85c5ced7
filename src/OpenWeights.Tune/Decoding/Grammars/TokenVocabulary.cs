using System.Runtime.CompilerServices;
using System.Text;
using OpenWeights.Tokenizers;

namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>
/// The bytes of a tokenizer's tokens, as a tree. Made once for a tokenizer and shared by all constraints; safe for use by several threads.
/// </summary>
internal sealed class TokenVocabulary
{
    private static readonly ConditionalWeakTable<Tokenizer, Dictionary<int, TokenVocabulary>> s_known = [];

    private readonly byte[][] _bytes;

    // The tree in the order of a walk: each node's byte and depth, the node after all below it, and its tokens.
    private readonly byte[] _byte;
    private readonly int[] _depth;
    private readonly int[] _after;
    private readonly int[] _above;
    private readonly int[] _firstToken;
    private readonly int[] _tokens;
    private readonly int _deepest;

    private TokenVocabulary(byte[][] bytes)
    {
        _bytes = bytes;
        var order = Enumerable.Range(0, bytes.Length).Where(i => bytes[i].Length > 0).ToArray();
        Array.Sort(order, (a, b) => bytes[a].AsSpan().SequenceCompareTo(bytes[b]) is not 0 and var by ? by : a.CompareTo(b));
        var (values, depths, first, open) = (new List<byte>(), new List<int>(), new List<int>(), new List<int>());
        var (after, above) = (new List<int>(), new List<int>());
        ReadOnlySpan<byte> last = [];
        for (var i = 0; i < order.Length; i++)
        {
            var token = bytes[order[i]];
            var common = last.CommonPrefixLength(token);
            Close(common);
            for (var at = common; at < token.Length; at++)
            {
                above.Add(open.Count > 0 ? open[^1] : -1);
                open.Add(values.Count);
                values.Add(token[at]);
                depths.Add(at);
                after.Add(0);
                first.Add(i);
            }

            last = token;
        }

        Close(0);
        (_byte, _depth, _after, _above) = ([.. values], [.. depths], [.. after], [.. above]);

        // The tokens of a node stand together, and those of the nodes below it come after.
        _tokens = order;
        _firstToken = [.. first, order.Length];
        _deepest = bytes.Max(static b => b.Length);

        void Close(int depth)
        {
            for (; open.Count > depth; open.RemoveAt(open.Count - 1))
            {
                after[open[^1]] = values.Count;
            }
        }
    }

    /// <summary>Number of tokens.</summary>
    public int Size => _bytes.Length;

    /// <summary>The vocabulary of a tokenizer.</summary>
    /// <param name="tokenizer">The tokenizer.</param>
    /// <param name="vocabularySize">Number of the model's logits; tokens beyond it do not count.</param>
    public static TokenVocabulary Of(Tokenizer tokenizer, int vocabularySize)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        var known = s_known.GetOrCreateValue(tokenizer);
        lock (known)
        {
            if (!known.TryGetValue(vocabularySize, out var vocabulary))
            {
                known[vocabularySize] = vocabulary = new TokenVocabulary([.. Enumerable.Range(0, vocabularySize).Select(i => BytesOf(tokenizer, i))]);
            }

            return vocabulary;
        }
    }

    /// <summary>A vocabulary of tokens without a tokenizer.</summary>
    /// <param name="tokens">The bytes of each token; none for a token that never stands in a text.</param>
    internal static TokenVocabulary Of(IEnumerable<byte[]> tokens) => new([.. tokens]);

    /// <summary>The bytes of a token in a grammar.</summary>
    internal ReadOnlySpan<byte> this[int token] => _bytes[token];

    /// <summary>What tokens do within a rule.</summary>
    /// <param name="states">The grammar's states.</param>
    /// <param name="state">A state in the rule, whose caller is not known.</param>
    internal RuleMask Within(GrammarStates states, GrammarState state)
    {
        var (mask, leaving) = (new ulong[(_bytes.Length + 63) / 64], new List<int>());
        var open = new GrammarState[_deepest + 1];
        open[0] = state;
        Walk(states, open, 0, _byte.Length, mask, leaving);
        return new RuleMask(mask, [.. leaving]);
    }

    /// <summary>The tokens that can follow a state, a bit for each.</summary>
    /// <param name="states">The grammar's states.</param>
    /// <param name="state">The state.</param>
    /// <param name="rules">What tokens do within the rules of its places.</param>
    internal ulong[] Together(GrammarStates states, GrammarState state, IReadOnlyList<RuleMask> rules)
    {
        var mask = new ulong[(_bytes.Length + 63) / 64];
        foreach (var rule in rules)
        {
            for (var word = 0; word < mask.Length; word++)
            {
                mask[word] |= rule.Allowed[word];
            }
        }

        var (open, done) = (new GrammarState[_deepest + 1], 0);
        foreach (var node in rules.SelectMany(static r => r.Leaving).Order())
        {
            if (node >= done)
            {
                open[_depth[node] + 1] = At(states, state, node);
                done = _after[node];
                Walk(states, open, node + 1, done, mask, null);
            }
        }

        return mask;
    }

    // The state after the bytes that lead to a node.
    private GrammarState At(GrammarStates states, GrammarState state, int node)
    {
        var from = _above[node] < 0 ? state : At(states, state, _above[node]);
        return states.Next(from, _byte[node]) ?? throw new InvalidOperationException("a rule has no place for bytes that it was found to read");
    }

    private void Walk(GrammarStates states, GrammarState[] open, int from, int to, ulong[] mask, List<int>? leaving)
    {
        for (var i = from; i < to;)
        {
            var (state, number) = (open[_depth[i]], states.ClassOf(_byte[i]));
            if ((state.Known[number] ? state.Next[number] : states.Next(state, _byte[i])) is not { } next)
            {
                i = _after[i];
                continue;
            }

            open[_depth[i] + 1] = next;
            for (var at = _firstToken[i]; at < _firstToken[i + 1]; at++)
            {
                mask[_tokens[at] >> 6] |= 1UL << (_tokens[at] & 63);
            }

            if (next.Leaves && _after[i] > i + 1)
            {
                leaving?.Add(i);
            }

            i++;
        }
    }

    // Special tokens are no part of a text; they can stand where a grammar names them. So can others that are written like a mark.
    private static byte[] BytesOf(Tokenizer tokenizer, int id)
    {
        if (tokenizer.BytesOf(id) is not { Length: > 0 } bytes)
        {
            return [];
        }

        var text = tokenizer.IsAdded(id) ? tokenizer.IdToToken(id)! : "";
        var isNamed = id == tokenizer.UnknownToken || id == tokenizer.BosToken || id == tokenizer.EosToken || id == tokenizer.PadToken;
        var isMark = isNamed || tokenizer.IsSpecial(id) || (text.Length > 2 && (text[0], text[^1]) is ('<', '>') or ('[', ']'));
        if (isMark)
        {
            return [GrammarNode.MarkStart, .. Encoding.UTF8.GetBytes(tokenizer.IdToToken(id)!), GrammarNode.MarkEnd];
        }

        // A vocabulary of bytes has tokens for these two as well, which no text has: they are not to be taken for the ends of a mark.
        return bytes.AsSpan().ContainsAny(GrammarNode.MarkStart, GrammarNode.MarkEnd) ? [] : bytes;
    }
}
