namespace OpenWeights.Tokenizers;

/// <summary>When "Metaspace" puts its mark before a piece that has none.</summary>
internal enum PrependScheme
{
    /// <summary>Before every piece.</summary>
    Always,

    /// <summary>Before the piece that begins the input.</summary>
    First,

    /// <summary>Never.</summary>
    Never,
}

/// <summary>"Metaspace": writes spaces as a visible mark and cuts before each mark.</summary>
/// <param name="mark">The mark, U+2581 as a rule.</param>
/// <param name="prepend">When to put a mark before a piece.</param>
/// <param name="split">Whether to cut.</param>
internal sealed class MetaspacePreTokenizer(string mark, PrependScheme prepend, bool split) : PreTokenizer
{
    private readonly SplitPreTokenizer? _split =
        split ? new SplitPreTokenizer(new LiteralPattern(mark), SplitBehavior.MergedWithNext, invert: false) : null;

    public override bool NeedsAlignment => prepend == PrependScheme.First;

    public override void Apply(PreTokenizedText text)
    {
        var output = text.BeginRewrite();
        var source = text.Text.AsSource();
        foreach (var piece in text.Pieces)
        {
            var start = output.Length;
            var chars = source.Chars.Slice(piece.Start, piece.Length);
            if (prepend != PrependScheme.Never
                && chars[0] != ' ' && !chars.StartsWith(mark)
                && (prepend == PrependScheme.Always || source.InputStart(piece.Start) == 0))
            {
                var first = char.IsHighSurrogate(chars[0]) && chars.Length > 1 ? piece.Start + 1 : piece.Start;
                output.Append(mark, source.InputStart(piece.Start), source.InputEnd(first));
            }

            WriteMarked(output, source, piece);
            text.Add(start, output.Length - start);
        }

        text.EndRewrite();
        _split?.Apply(text);
    }

    private void WriteMarked(AlignedText output, in SourceText source, PreTokenizedText.Piece piece)
    {
        var at = piece.Start;
        var end = piece.Start + piece.Length;
        while (at < end)
        {
            var space = source.Chars[at..end].IndexOf(' ');
            var plain = space < 0 ? end - at : space;
            output.Append(source, at, plain);
            at += plain;
            if (at < end)
            {
                output.Append(mark, source.InputStart(at), source.InputEnd(at));
                at++;
            }
        }
    }
}
