using System.Buffers.Text;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;

namespace OpenWeights.Tokenizers;

/// <summary>
/// Reads the long and simple parts of a tokenizer.json, hundreds of thousands of short strings, several times faster than a general
/// reader; everything else is handed to System.Text.Json.
/// </summary>
internal ref struct JsonCursor
{
    private readonly ReadOnlySpan<byte> _json;
    private byte[] _unescaped = new byte[256];

    /// <param name="json">The file's text.</param>
    /// <param name="at">Where to begin.</param>
    public JsonCursor(ReadOnlySpan<byte> json, int at = 0)
    {
        _json = json;
        At = at;
    }

    /// <summary>The place of the next byte.</summary>
    public int At { get; private set; }

    /// <summary>The length of the text.</summary>
    public readonly int Length => _json.Length;

    /// <summary>The next byte that is no white space, which is not taken; 0 at the end.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte Peek()
    {
        while (At < _json.Length)
        {
            var value = _json[At];
            if (value is not ((byte)' ' or (byte)'\n' or (byte)'\r' or (byte)'\t'))
            {
                return value;
            }

            At++;
        }

        return 0;
    }

    /// <summary>Takes a punctuation mark, which must be next.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Take(char mark)
    {
        if (Peek() != mark)
        {
            throw Error($"'{mark}' is expected");
        }

        At++;
    }

    /// <summary>Takes a punctuation mark if it is next.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryTake(char mark)
    {
        if (Peek() != mark)
        {
            return false;
        }

        At++;
        return true;
    }

    /// <summary>
    /// Goes to the next member of an object or element of an array that was begun.
    /// </summary>
    /// <param name="end">The closing mark.</param>
    /// <param name="isFirst">Whether none has been read; set to false.</param>
    /// <returns>False where it ends, which is taken.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool Next(char end, ref bool isFirst)
    {
        if (TryTake(end))
        {
            return false;
        }

        if (!isFirst)
        {
            Take(',');
        }

        isFirst = false;
        return true;
    }

    /// <summary>Takes a string.</summary>
    /// <returns>Its UTF-8, which the next call may overwrite.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ReadOnlySpan<byte> TakeString()
    {
        Take('"');
        var start = At;
        for (var i = start; i < _json.Length; i++)
        {
            var value = _json[i];
            if (value == (byte)'"')
            {
                At = i + 1;
                return _json[start..i];
            }

            if (value is (byte)'\\' or < 0x20)
            {
                At = i;
                return TakeEscaped(start);
            }
        }

        throw Error("a string does not end");
    }

    /// <summary>Takes the name of a member, with the colon after it.</summary>
    public string TakeKey()
    {
        var key = Encoding.UTF8.GetString(TakeString());
        Take(':');
        return key;
    }

    /// <summary>Takes a whole number if one that fits is next.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryTakeInteger(out int value)
    {
        _ = Peek();
        if (!Utf8Parser.TryParse(_json[At..], out value, out var length) || (At + length < _json.Length && _json[At + length] is (byte)'.' or (byte)'e' or (byte)'E'))
        {
            return false;
        }

        At += length;
        return true;
    }

    /// <summary>Takes a number if one is next.</summary>
    /// <returns>Its text; empty if absent.</returns>
    public ReadOnlySpan<byte> TakeNumber()
    {
        _ = Peek();
        var start = At;
        while (At < _json.Length && _json[At] is (>= (byte)'0' and <= (byte)'9') or (byte)'-' or (byte)'+' or (byte)'.' or (byte)'e' or (byte)'E')
        {
            At++;
        }

        return _json[start..At];
    }

    /// <summary>Takes a value of any kind.</summary>
    public JsonElement TakeValue()
    {
        _ = Peek();
        var reader = new Utf8JsonReader(_json[At..], isFinalBlock: true, default);
        try
        {
            var value = JsonElement.ParseValue(ref reader);
            At += (int)reader.BytesConsumed;
            return value;
        }
        catch (JsonException e)
        {
            At += (int)reader.BytesConsumed;
            throw Error(JsonSection.Reason(e));
        }
    }

    /// <summary>An error at the place.</summary>
    public readonly JsonException Error(string what)
    {
        var before = _json[..Math.Min(At, _json.Length)];
        var lineStart = before.LastIndexOf((byte)'\n') + 1;
        return new JsonException(what, null, before.Count((byte)'\n'), before.Length - lineStart);
    }

    private ReadOnlySpan<byte> TakeEscaped(int start)
    {
        var count = At - start;
        Reserve(count);
        _json[start..At].CopyTo(_unescaped);
        while (At < _json.Length)
        {
            var value = _json[At];
            if (value == (byte)'"')
            {
                At++;
                return _unescaped.AsSpan(0, count);
            }

            if (value < 0x20)
            {
                throw Error("a string has a control character that is not escaped");
            }

            Reserve(count + 4);
            At++;
            if (value == (byte)'\\')
            {
                count += TakeEscape(_unescaped.AsSpan(count));
            }
            else
            {
                _unescaped[count++] = value;
            }
        }

        throw Error("a string does not end");
    }

    private void Reserve(int count)
    {
        if (_unescaped.Length < count)
        {
            Array.Resize(ref _unescaped, count * 2);
        }
    }

    private int TakeEscape(Span<byte> destination)
    {
        var escape = At < _json.Length ? _json[At] : (byte)0;
        var plain = "\"\\/bfnrt".IndexOf((char)escape, StringComparison.Ordinal);
        if (plain >= 0)
        {
            At++;
            destination[0] = "\"\\/\b\f\n\r\t"u8[plain];
            return 1;
        }

        if (escape != (byte)'u')
        {
            throw Error("a string has an escape that JSON does not know");
        }

        At++;
        int unit = TakeUnit();
        if (char.IsHighSurrogate((char)unit) && _json[At..].StartsWith("\\u"u8))
        {
            At += 2;
            var low = TakeUnit();
            unit = char.IsLowSurrogate(low) ? char.ConvertToUtf32((char)unit, low) : -1;
        }

        return Rune.TryCreate(unit, out var rune) ? rune.EncodeToUtf8(destination) : throw Error("a string has half of a surrogate pair");
    }

    private char TakeUnit()
    {
        if (At + 4 > _json.Length
            || !ushort.TryParse(_json.Slice(At, 4), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var unit))
        {
            throw Error("a string has \\u without four hexadecimal digits");
        }

        At += 4;
        return (char)unit;
    }
}
