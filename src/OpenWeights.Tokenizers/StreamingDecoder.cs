using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>
/// Decodes tokens as they come. Each call gives the text that is certain by then: never half a character, and never text that a
/// later token could change. All parts joined, with <see cref="Finish"/>'s, are exactly what
/// <see cref="Tokenizer.Decode(ReadOnlySpan{int}, bool)"/> gives for all tokens. Not for use by several threads at once.
/// </summary>
public sealed class StreamingDecoder
{
    // What stands before text that goes on: nothing that a decoder changes.
    private const string Before = "a";

    private readonly Tokenizer _tokenizer;
    private readonly bool _skipSpecialTokens;
    private readonly Sink _sink = new();
    private readonly DecodeStage _first;
    private bool _isFinished;

    internal StreamingDecoder(Tokenizer tokenizer, IReadOnlyList<TokenDecoder> decoders, bool skipSpecialTokens, bool goesOn)
    {
        _tokenizer = tokenizer;
        _skipSpecialTokens = skipSpecialTokens;
        _first = Begin(decoders);
        if (!goesOn)
        {
            return;
        }

        _first.Push(Before, endsToken: true);
        if (_sink.Take() != Before)
        {
            // One that gives text only at the end has no middle.
            _first = Begin(decoders);
        }
    }

    /// <summary>Takes the next token.</summary>
    /// <param name="id">Its id. An id that no token has adds nothing.</param>
    /// <returns>The text that is certain now and was not before; often empty.</returns>
    /// <exception cref="InvalidOperationException"><see cref="Finish"/> has been called.</exception>
    public string Add(int id)
    {
        Push(id);
        return _sink.Take();
    }

    /// <summary>Ends the text: no token follows.</summary>
    /// <returns>The text that was held back: U+FFFD if the tokens end in the middle of a character.</returns>
    /// <exception cref="InvalidOperationException">It has been called before.</exception>
    public string Finish()
    {
        ThrowIfFinished();
        _isFinished = true;
        _first.Finish();
        return _sink.Take();
    }

    internal void Push(int id)
    {
        ThrowIfFinished();
        if (_tokenizer.DecodedForm(id, _skipSpecialTokens) is { } token)
        {
            _first.Push(token, endsToken: true);
        }
    }

    private DecodeStage Begin(IReadOnlyList<TokenDecoder> decoders)
    {
        DecodeStage first = _sink;
        for (var i = decoders.Count - 1; i >= 0; i--)
        {
            first = decoders[i].Begin(first);
        }

        return first;
    }

    private void ThrowIfFinished()
    {
        if (_isFinished)
        {
            throw new InvalidOperationException("This decoder has finished; make a new one for other tokens.");
        }
    }

    private sealed class Sink : DecodeStage
    {
        private readonly StringBuilder _text = new();

        public override void Push(string text, bool endsToken) => _text.Append(text);

        public override void Finish()
        {
        }

        public string Take()
        {
            var text = _text.ToString();
            _ = _text.Clear();
            return text;
        }
    }
}
