namespace OpenWeights.Tokenizers;

/// <summary>A text and the pieces that the pre-tokenizers have cut it into so far.</summary>
internal sealed class PreTokenizedText
{
    private AlignedText _other = new();
    private List<Piece> _next = [];

    /// <summary>A piece of the text.</summary>
    public readonly record struct Piece(int Start, int Length);

    /// <summary>The text; a pre-tokenizer that changes it writes a new one.</summary>
    public AlignedText Text { get; private set; } = new();

    /// <summary>The pieces in order; none is empty.</summary>
    public List<Piece> Pieces { get; private set; } = [];

    /// <summary>Matches of a pattern in a piece, for the pre-tokenizers to collect in.</summary>
    public List<PatternMatch> Matches { get; } = [];

    /// <summary>Begins with one piece.</summary>
    public void Load(in SourceText source, int start, int length, bool aligned)
    {
        Text.Clear(aligned);
        Text.Append(source, start, length);
        Pieces.Clear();
        if (length > 0)
        {
            Pieces.Add(new Piece(0, length));
        }
    }

    /// <summary>Adds a piece of the cut that is under way.</summary>
    public void Add(int start, int length)
    {
        if (length > 0)
        {
            _next.Add(new Piece(start, length));
        }
    }

    /// <summary>Takes the pieces that were added as the text's pieces.</summary>
    public void EndCut()
    {
        (Pieces, _next) = (_next, Pieces);
        _next.Clear();
    }

    /// <summary>Begins to write a changed text, piece by piece.</summary>
    public AlignedText BeginRewrite()
    {
        _other.Clear(Text.IsAligned);
        return _other;
    }

    /// <summary>Takes what was written as the text, with the pieces that were added.</summary>
    public void EndRewrite()
    {
        (Text, _other) = (_other, Text);
        EndCut();
    }
}

/// <summary>A range of a piece, and whether it is a match of the pattern or text between matches.</summary>
internal readonly record struct PatternMatch(int Start, int End, bool IsMatch);
