using System.Numerics;
using OpenWeights.Tune.Decoding.Engine;

namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>
/// Allows only tokens with which a text can still become one of a grammar, and an end token only where it is complete. A text that ends for
/// another reason, such as its largest number of tokens, is cut off where it is.
/// </summary>
internal sealed class GrammarConstraint : ITokenConstraint
{
    private readonly GrammarStates _states;
    private readonly TokenVocabulary _vocabulary;
    private readonly int[] _endTokens;
    private GrammarState _state;
    private bool _ended;

    /// <summary>Creates a constraint for one text.</summary>
    /// <param name="grammar">What the text may be.</param>
    /// <param name="vocabulary">The tokens.</param>
    /// <param name="endTokens">Tokens that end a text.</param>
    public GrammarConstraint(Grammar grammar, TokenVocabulary vocabulary, IEnumerable<int> endTokens)
    {
        ArgumentNullException.ThrowIfNull(grammar);
        ArgumentNullException.ThrowIfNull(vocabulary);
        ArgumentNullException.ThrowIfNull(endTokens);
        (_states, _vocabulary, _endTokens) = (grammar.States(), vocabulary, [.. endTokens]);
        _state = _states.First;
    }

    /// <summary>Whether the text so far is complete.</summary>
    public bool IsComplete => _state.Ends;

    /// <summary>Whether the text is complete and nothing can follow, so that generating can stop without an end token.</summary>
    public bool IsEnded => _ended || (_state.Ends && !_state.GoesOn);

    /// <inheritdoc/>
    public void Restrict(Span<float> logits)
    {
        Span<float> kept = stackalloc float[_endTokens.Length];
        for (var i = 0; i < kept.Length; i++)
        {
            kept[i] = _endTokens[i] < logits.Length ? logits[_endTokens[i]] : float.NegativeInfinity;
        }

        var any = !IsEnded && Apply(logits);
        if (IsEnded)
        {
            logits.Fill(float.NegativeInfinity);
        }

        // Where the vocabulary has no token that could go on, the text ends.
        for (var i = 0; i < kept.Length; i++)
        {
            if (_endTokens[i] < logits.Length)
            {
                logits[_endTokens[i]] = IsComplete || !any ? kept[i] : float.NegativeInfinity;
            }
        }
    }

    /// <inheritdoc/>
    /// <exception cref="InvalidOperationException">The token was not allowed.</exception>
    public void Accept(int token)
    {
        if (_ended || Array.IndexOf(_endTokens, token) >= 0)
        {
            _ended = true;
            return;
        }

        lock (_states)
        {
            _state = (uint)token < (uint)_vocabulary.Size && _vocabulary[token].Length > 0 && _states.Next(_state, _vocabulary[token]) is { } next
                ? next
                : throw new InvalidOperationException($"the token {token} cannot come next in the text's grammar.");
        }
    }

    private bool Apply(Span<float> logits)
    {
        ulong[] mask;
        lock (_states)
        {
            mask = _states.Mask(_state, _vocabulary);
        }

        var any = 0UL;
        for (var word = 0; word < mask.Length && word * 64 < logits.Length; word++)
        {
            var part = logits.Slice(word * 64, Math.Min(64, logits.Length - (word * 64)));
            any |= mask[word];
            if (mask[word] == 0)
            {
                part.Fill(float.NegativeInfinity);
                continue;
            }

            for (var left = ~mask[word]; left != 0; left &= left - 1)
            {
                var bit = BitOperations.TrailingZeroCount(left);
                if (bit >= part.Length)
                {
                    break;
                }

                part[bit] = float.NegativeInfinity;
            }
        }

        if (mask.Length * 64 < logits.Length)
        {
            logits[(mask.Length * 64)..].Fill(float.NegativeInfinity);
        }

        return any != 0;
    }
}
