using System.Buffers;

namespace OpenWeights.Tune.Data.Files;

/// <summary>
/// Splits a JSON array into its elements without parsing it as a whole, so that an invalid element is reported individually.
/// </summary>
internal sealed class JsonArrayReader(Stream stream, string path)
{
    private readonly byte[] _buffer = new byte[1 << 18];
    private readonly ArrayBufferWriter<byte> _element = new(1 << 12);
    private int _at;
    private int _end;
    private long _line = 1;

    /// <summary>The elements with their numbers, from 1.</summary>
    /// <exception cref="InvalidDataException">The array itself is broken; nothing after this position can be read.</exception>
    internal IEnumerable<(long Number, byte[] Bytes)> Read()
    {
        if (SkipSpace() != '[')
        {
            throw Broken("the file does not start as a JSON array");
        }

        _at++;
        for (var number = 1L; ; number++)
        {
            if (SkipSpace() == ']' && number == 1)
            {
                break;
            }

            Element(number);
            yield return (number, _element.WrittenSpan.ToArray());
            if (Take() == ']')
            {
                break;
            }
        }

        if (_at < _end)
        {
            _at++;
        }

        if (SkipSpace() >= 0)
        {
            throw Broken("there is text after the end of the JSON array");
        }
    }

    // Copies an element up to the following comma or bracket, which Take reads.
    private void Element(long number)
    {
        _element.ResetWrittenCount();
        var (depth, inText, escaped, from) = (0, false, false, _line);
        for (int c; (c = Peek()) >= 0; _at++)
        {
            if (c == '\n')
            {
                _line++;
            }

            if (inText)
            {
                (inText, escaped) = (escaped || c != '"', !escaped && c == '\\');
            }
            else if (depth == 0 && c is ',' or ']')
            {
                return;
            }
            else
            {
                depth += c is '{' or '[' ? 1 : c is '}' or ']' ? -1 : 0;
                inText = c == '"';
            }

            _element.GetSpan(1)[0] = (byte)c;
            _element.Advance(1);
            if (_element.WrittenCount > LineReader.LongestRow)
            {
                throw Broken($"row {number}, which begins at line {from}, is longer than {LineReader.LongestRow >> 20} MiB");
            }
        }

        throw Broken($"the file ends within row {number}, which begins at line {from}; the JSON array is not closed");
    }

    private int Take()
    {
        var c = Peek();
        if (c == ',')
        {
            _at++;
        }

        return c;
    }

    private int SkipSpace()
    {
        int c;
        while ((c = Peek()) is ' ' or '\t' or '\r' or '\n')
        {
            _line += c == '\n' ? 1 : 0;
            _at++;
        }

        return c;
    }

    private int Peek()
    {
        if (_at == _end)
        {
            var first = _end == 0;
            (_at, _end) = (0, stream.Read(_buffer));
            if (first)
            {
                _at = Utf8Start.Skip(_buffer.AsSpan(0, _end), path);
            }
        }

        return _at < _end ? _buffer[_at] : -1;
    }

    private InvalidDataException Broken(string what) => new($"{path}:{_line}: {what}.");
}
