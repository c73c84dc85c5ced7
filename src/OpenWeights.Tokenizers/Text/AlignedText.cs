namespace OpenWeights.Tokenizers;

/// <summary>
/// A text under transformation with, where asked for, the range of the input that each of its UTF-16 units came from.
/// The buffers are kept between uses.
/// </summary>
internal sealed class AlignedText
{
    private char[] _chars = new char[256];
    private int[] _starts = [];
    private int[] _ends = [];

    /// <summary>Units in use.</summary>
    public int Length { get; private set; }

    /// <summary>Whether ranges of the input are kept.</summary>
    public bool IsAligned { get; private set; }

    /// <summary>The text.</summary>
    public ReadOnlySpan<char> Chars => _chars.AsSpan(0, Length);

    /// <summary>Where in the input each unit's origin begins; empty where no ranges are kept.</summary>
    public ReadOnlySpan<int> Starts => IsAligned ? _starts.AsSpan(0, Length) : default;

    /// <summary>Where in the input each unit's origin ends; empty where no ranges are kept.</summary>
    public ReadOnlySpan<int> Ends => IsAligned ? _ends.AsSpan(0, Length) : default;

    /// <summary>Empties the text.</summary>
    public void Clear(bool aligned)
    {
        Length = 0;
        IsAligned = aligned;
        if (aligned && _starts.Length < _chars.Length)
        {
            _starts = new int[_chars.Length];
            _ends = new int[_chars.Length];
        }
    }

    /// <summary>Appends a piece of another text, ranges included.</summary>
    public void Append(in SourceText source, int start, int length)
    {
        Reserve(length);
        source.Chars.Slice(start, length).CopyTo(_chars.AsSpan(Length));
        if (IsAligned)
        {
            for (var i = 0; i < length; i++)
            {
                _starts[Length + i] = source.InputStart(start + i);
                _ends[Length + i] = source.InputEnd(start + i);
            }
        }

        Length += length;
    }

    /// <summary>Appends text that replaces the range [<paramref name="inputStart"/>, <paramref name="inputEnd"/>) of the input.</summary>
    public void Append(ReadOnlySpan<char> text, int inputStart, int inputEnd)
    {
        Reserve(text.Length);
        text.CopyTo(_chars.AsSpan(Length));
        if (IsAligned)
        {
            _starts.AsSpan(Length, text.Length).Fill(inputStart);
            _ends.AsSpan(Length, text.Length).Fill(inputEnd);
        }

        Length += text.Length;
    }

    /// <summary>Appends one unit that replaces the range [<paramref name="inputStart"/>, <paramref name="inputEnd"/>) of the input.</summary>
    public void Append(char unit, int inputStart, int inputEnd)
    {
        Reserve(1);
        _chars[Length] = unit;
        if (IsAligned)
        {
            _starts[Length] = inputStart;
            _ends[Length] = inputEnd;
        }

        Length++;
    }

    /// <summary>Lets the range of the first unit begin at a place of the input.</summary>
    public void StartAt(int inputStart)
    {
        if (IsAligned && Length > 0)
        {
            _starts[0] = inputStart;
        }
    }

    /// <summary>Drops every such unit at the end.</summary>
    public void TrimEnd(char unit)
    {
        while (Length > 0 && _chars[Length - 1] == unit)
        {
            Length--;
        }
    }

    /// <summary>This text as a source to read from.</summary>
    public SourceText AsSource() => new(Chars, Starts, Ends, 0);

    private void Reserve(int extra)
    {
        var needed = Length + extra;
        if (needed <= _chars.Length)
        {
            return;
        }

        var size = (int)Math.Min(Array.MaxLength, Math.Max(needed, (long)_chars.Length * 2));
        Array.Resize(ref _chars, size);
        if (IsAligned)
        {
            Array.Resize(ref _starts, size);
            Array.Resize(ref _ends, size);
        }
    }
}

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
