namespace OpenWeights.Tokenizers;

/// <summary>A tokenizer's normalizers, one after the other.</summary>
internal sealed class NormalizerChain(IReadOnlyList<Normalizer> steps)
{
    /// <summary>Rewrites the text into <see cref="EncodeState.Front"/>.</summary>
    /// <returns>False if the text is unchanged and nothing was written.</returns>
    public bool Apply(in SourceText source, EncodeState state, bool aligned)
    {
        var written = false;
        foreach (var step in steps)
        {
            if (step.Leaves(written ? state.Front.Chars : source.Chars))
            {
                continue;
            }

            state.Back.Clear(aligned);
            if (written)
            {
                step.Write(state.Front.AsSource(), state.Back);
            }
            else
            {
                step.Write(source, state.Back);
            }

            state.Swap();
            written = true;
        }

        return written;
    }

    /// <summary>Normalizes a complete text.</summary>
    public string Apply(string text)
    {
        var state = new EncodeState();
        return Apply(new SourceText(text, default, default, 0), state, aligned: false) ? state.Front.Chars.ToString() : text;
    }
}
