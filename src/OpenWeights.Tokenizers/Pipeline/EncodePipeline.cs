namespace OpenWeights.Tokenizers;

/// <summary>The road from text to ids: added tokens out, normalize, added tokens out again, cut into pieces, tokenize each.</summary>
internal sealed class EncodePipeline(TokenizerParts parts, AddedVocabulary added)
{
    private readonly NormalizerChain _normalizers = parts.Normalizers;
    private readonly TokenModel _model = parts.Model;
    private readonly PreTokenizerPlan _plan = new(parts.PreTokenizers, parts.Model.TakesByteLevelWords);

    /// <summary>Adds the tokens of a text, without those that a template puts around it.</summary>
    public void Encode(ReadOnlySpan<char> text, EncodeState state)
    {
        if (added.InText.IsEmpty)
        {
            EncodePart(text, 0, text.Length, state);
            return;
        }

        foreach (var part in added.InText.In(text))
        {
            if (state.IsFull)
            {
                return;
            }

            if (part.Token is { } token)
            {
                state.Output.Add(token.Id, part.Start, part.End);
            }
            else
            {
                EncodePart(text, part.Start, part.End, state);
            }
        }
    }

    private void EncodePart(ReadOnlySpan<char> text, int start, int end, EncodeState state)
    {
        var source = new SourceText(text[start..end], default, default, start);
        var aligned = state.Output.HasRanges || _plan.NeedsAlignment;
        if (_normalizers.Apply(source, state, aligned))
        {
            source = state.Front.AsSource();
        }

        if (added.InNormalized.IsEmpty)
        {
            EncodeWords(source, 0, source.Chars.Length, state);
            return;
        }

        foreach (var part in added.InNormalized.In(source.Chars))
        {
            if (part.Token is { } token)
            {
                state.Output.Add(token.Id, source.InputStart(part.Start), source.InputEnd(part.End - 1));
            }
            else
            {
                EncodeWords(source, part.Start, part.End, state);
            }
        }
    }

    private void EncodeWords(in SourceText source, int start, int end, EncodeState state)
    {
        if (start == end)
        {
            return;
        }

        if (_plan.Tiling is { } tiling)
        {
            var text = source.Chars[start..end];
            for (var at = 0; at < text.Length && !state.IsFull;)
            {
                var next = tiling.End(text, at);
                EncodePiece(source, start + at, start + next, state);
                at = next;
            }
        }
        else if (_plan.IsEmpty)
        {
            EncodePiece(source, start, end, state);
        }
        else
        {
            var pieces = state.Pieces;
            pieces.Load(source, start, end - start, state.Output.HasRanges || _plan.NeedsAlignment);
            _plan.Apply(pieces);
            var cut = pieces.Text.AsSource();
            foreach (var piece in pieces.Pieces)
            {
                if (state.IsFull)
                {
                    return;
                }

                EncodePiece(cut, piece.Start, piece.Start + piece.Length, state);
            }
        }
    }

    private void EncodePiece(in SourceText source, int start, int end, EncodeState state)
    {
        var output = state.Output;
        var before = output.Count;
        var piece = source.Chars[start..end];
        if (_plan.EndsByteLevel)
        {
            _model.TokenizeByteLevel(piece, state);
        }
        else
        {
            _model.Tokenize(piece, state);
        }

        if (output.HasRanges)
        {
            var starts = output.Starts;
            var ends = output.Ends;
            for (var i = before; i < output.Count; i++)
            {
                var isEmpty = starts[i] == ends[i];
                var first = Math.Min(start + starts[i], end - 1);
                starts[i] = source.InputStart(first);
                ends[i] = isEmpty ? starts[i] : source.InputEnd(start + ends[i] - 1);
            }
        }
    }
}
