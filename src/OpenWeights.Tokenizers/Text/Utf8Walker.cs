using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>
/// Translates offsets in a text's UTF-8 into offsets in its UTF-16, going forward only: an offset within a character means
/// the whole character.
/// </summary>
internal ref struct Utf8Walker
{
    private readonly ReadOnlySpan<char> _text;
    private int _unit;
    private int _units;
    private int _byte;
    private int _bytes;

    /// <summary>Begins at the text's first character.</summary>
    public Utf8Walker(ReadOnlySpan<char> text)
    {
        _text = text;
        Measure();
    }

    /// <summary>Where the character that holds the byte at <paramref name="offset"/> begins.</summary>
    public int StartOf(int offset)
    {
        while (_byte + _bytes <= offset && _unit < _text.Length)
        {
            Advance();
        }

        return _unit;
    }

    /// <summary>Where the character that holds the byte before <paramref name="offset"/> ends.</summary>
    public int EndOf(int offset)
    {
        while (_byte + _bytes < offset && _unit < _text.Length)
        {
            Advance();
        }

        return Math.Min(_text.Length, _unit + _units);
    }

    private void Advance()
    {
        _unit += _units;
        _byte += _bytes;
        Measure();
    }

    private void Measure()
    {
        if (_unit >= _text.Length)
        {
            _units = _bytes = 0;
            return;
        }

        var unit = _text[_unit];
        if (unit < 0x80)
        {
            _units = _bytes = 1;
            return;
        }

        _ = Rune.DecodeFromUtf16(_text[_unit..], out var rune, out _units);
        _bytes = rune.Utf8SequenceLength;
    }
}
