using OpenWeights.Tokenizers;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Decoding.Engine;

namespace OpenWeights.Tune.Answering;

/// <summary>
/// Makes deltas of generated tokens: text that no later token changes, without a stop text and what follows it, reasoning apart. A token is told with the
/// text that it completes.
/// </summary>
internal sealed class AnswerParts
{
    private readonly ServedModel _model;
    private readonly StreamingDecoder _decoder;
    private readonly AnswerParser? _parser;
    private readonly bool _endsAtCall;
    private readonly bool _isCalls;
    private readonly StopSequences _stops;
    private readonly bool _tellsTokens;

    // Tokens that were not told yet, with the number of characters of content up to their end.
    private readonly Queue<(AnswerToken Token, int End)> _pending = new();
    private int _content;
    private int _told;

    /// <summary>Creates the parts of one answer.</summary>
    /// <param name="model">The model.</param>
    /// <param name="parser">Separates reasoning, content and calls; null for a text that is no answer of a chat.</param>
    /// <param name="request">Stop texts, and whether one call is all.</param>
    /// <param name="tellsTokens">Whether deltas have their tokens.</param>
    internal AnswerParts(ServedModel model, AnswerParser? parser, AnswerRequest request, bool tellsTokens)
    {
        (_model, _parser, _endsAtCall, _tellsTokens) = (model, parser, request.CallsOnce, tellsTokens);
        _isCalls = parser is not null && request.ToolChoice.Kind == ToolChoiceKind.Required;
        _decoder = model.Tokenizer.CreateContinuedDecoder(skipSpecialTokens: true);
        _stops = new StopSequences(request.Stops, output: null);
    }

    /// <summary>The stop text that was found; null for none.</summary>
    internal string? Stop => _stops.FoundSequence;

    /// <summary>Whether the answer is complete.</summary>
    internal bool IsDone => _stops.Found || _parser is { IsDone: true } || (_endsAtCall && HasCalls);

    /// <summary>Whether the last token was reasoning.</summary>
    internal bool InReasoning => _parser is { InReasoning: true };

    /// <summary>Whether the answer calls a tool.</summary>
    internal bool HasCalls { get; private set; }

    /// <summary>Takes a token, and gives what is certain by then.</summary>
    internal IReadOnlyList<AnswerDelta> Add(GeneratedToken token)
    {
        var pieces = Parse(TextOf(token.Token));
        return Deltas(pieces, _tellsTokens ? _model.Texts.Of(token) : null);
    }

    /// <summary>Ends the answer, and gives what was held back.</summary>
    internal IReadOnlyList<AnswerDelta> Finish()
    {
        if (IsDone)
        {
            return Rest([]);
        }

        var deltas = Deltas([.. Parse(_decoder.Finish()), .. _parser?.Finish() ?? []], null);
        _stops.Finish("");
        if (_stops.Take() is { Length: > 0 } held)
        {
            deltas.Add(new AnswerDelta(new ContentPiece(held), Told(_stops.Passed)));
        }

        return Rest(deltas);
    }

    // The tokens that are left are told with the last delta.
    private List<AnswerDelta> Rest(List<AnswerDelta> deltas)
    {
        var tokens = Told(_stops.Found ? _stops.Passed : int.MaxValue);
        if (tokens.Count > 0)
        {
            deltas.Add(new AnswerDelta(new ContentPiece(""), tokens));
        }

        return deltas;
    }

    private string TextOf(int token) =>
        _parser is not null && _model.Tokenizer.IsSpecial(token) && _model.Tokenizer.Decode([token], skipSpecialTokens: false) is var special && _parser.Reads(special)
            ? special
            : _decoder.Add(token);

    private IReadOnlyList<AnswerPiece> Parse(string text) => _parser is not null ? _parser.Add(text) : text.Length == 0 ? [] : [new ContentPiece(text)];

    private List<AnswerDelta> Deltas(IReadOnlyList<AnswerPiece> pieces, AnswerToken? token)
    {
        List<AnswerPiece> passed = [];
        foreach (var piece in pieces)
        {
            if (_endsAtCall && HasCalls)
            {
                break;
            }

            if (piece is ContentPiece && _isCalls)
            {
                // An answer that must be calls has no other text, but the beginning of a call that was cut off.
                continue;
            }

            if (piece is ContentPiece content)
            {
                _content += content.Text.Length;
                _ = _stops.Add(content.Text);
                if (_stops.Take() is { Length: > 0 } text)
                {
                    passed.Add(new ContentPiece(text));
                }

                if (_stops.Found)
                {
                    break;
                }
            }
            else
            {
                HasCalls |= piece is ToolCallPiece;
                passed.Add(piece);
            }
        }

        if (token is not null)
        {
            _pending.Enqueue((token, _content));
        }

        if (passed.Count == 0)
        {
            return [];
        }

        var told = Told(_stops.Passed);
        return [.. passed.Select((p, i) => new AnswerDelta(p, i == passed.Count - 1 ? told : []))];
    }

    // Tokens whose text lies before an end; where a stop text cuts the text there, also the one that was cut.
    private List<AnswerToken> Told(int end)
    {
        List<AnswerToken> told = [];
        while (_pending.TryPeek(out var next) && (next.End <= end || (_stops.Found && _told < end)))
        {
            _told = next.End;
            told.Add(_pending.Dequeue().Token);
        }

        return told;
    }
}
