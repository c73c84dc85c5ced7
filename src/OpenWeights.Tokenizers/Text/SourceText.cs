namespace OpenWeights.Tokenizers;

/// <summary>A text to read from, and where in the input its units came from: at a constant distance, or unit by unit.</summary>
internal readonly ref struct SourceText
{
    private readonly ReadOnlySpan<int> _starts;
    private readonly ReadOnlySpan<int> _ends;
    private readonly int _offset;

    public SourceText(ReadOnlySpan<char> chars, ReadOnlySpan<int> starts, ReadOnlySpan<int> ends, int offset)
    {
        Chars = chars;
        _starts = starts;
        _ends = ends;
        _offset = offset;
    }

    /// <summary>The text.</summary>
    public ReadOnlySpan<char> Chars { get; }

    /// <summary>Where in the input the origin of unit <paramref name="index"/> begins.</summary>
    public int InputStart(int index) => _starts.IsEmpty ? index + _offset : _starts[index];

    /// <summary>Where in the input the origin of unit <paramref name="index"/> ends.</summary>
    public int InputEnd(int index) => _ends.IsEmpty ? index + 1 + _offset : _ends[index];
}
