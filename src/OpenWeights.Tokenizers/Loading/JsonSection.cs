using System.Text;
using System.Text.Json;
using System.Text.Unicode;

namespace OpenWeights.Tokenizers;

/// <summary>A value of a JSON file with its path, for error messages.</summary>
internal readonly struct JsonSection
{
    private readonly JsonElement _value;
    private readonly string _file;
    private readonly string _key;

    /// <param name="value">The value.</param>
    /// <param name="file">The file's path.</param>
    /// <param name="key">The key that leads to the value, such as <c>decoder.decoders[1]</c>; empty for the whole file.</param>
    public JsonSection(JsonElement value, string file, string key)
    {
        _value = value;
        _file = file;
        _key = key;
    }

    /// <summary>Reads a JSON file.</summary>
    public static JsonSection Read(string file)
    {
        try
        {
            using var document = JsonDocument.Parse(TextOf(File.ReadAllBytes(file), file));
            return new JsonSection(document.RootElement.Clone(), file, "");
        }
        catch (JsonException e)
        {
            throw Malformed(file, e);
        }
    }

    /// <summary>The bytes of a file, which must be UTF-8, without the byte order mark that some editors put first.</summary>
    public static ReadOnlyMemory<byte> TextOf(byte[] bytes, string file) =>
        Utf8.IsValid(bytes)
            ? bytes.AsMemory(bytes.AsSpan().StartsWith(Encoding.UTF8.Preamble) ? 3 : 0)
            : throw new InvalidDataException($"{file}: the file is not valid UTF-8, as JSON must be.");

    /// <summary>The error for a file that is no JSON.</summary>
    public static InvalidDataException Malformed(string file, JsonException e) =>
        new($"{file}: not valid JSON at line {e.LineNumber + 1}, byte {e.BytePositionInLine + 1}: {Reason(e)}", e);

    /// <summary>The message of a JSON error, without the position that System.Text.Json appends.</summary>
    public static string Reason(JsonException e)
    {
        var place = e.Message.IndexOf(" LineNumber:", StringComparison.Ordinal);
        return place < 0 ? e.Message : e.Message[..place];
    }


    /// <summary>Whether there is no value here, or null.</summary>
    public bool IsNull => _value.ValueKind is JsonValueKind.Null or JsonValueKind.Undefined;

    public bool IsObject => _value.ValueKind == JsonValueKind.Object;

    public bool IsArray => _value.ValueKind == JsonValueKind.Array;

    public bool IsString => _value.ValueKind == JsonValueKind.String;

    /// <summary>The value under a key; an absent one is null.</summary>
    public JsonSection this[string key]
    {
        get
        {
            if (!IsObject)
            {
                throw Wrong("an object");
            }

            var owner = _value;
            var value = Unescaped(() => owner.TryGetProperty(key, out var found) ? found : default);
            return new JsonSection(value, _file, _key.Length == 0 ? key : $"{_key}.{key}");
        }
    }

    /// <summary>The members of an object.</summary>
    public IEnumerable<(string Key, JsonSection Value)> Members()
    {
        if (!IsObject)
        {
            throw Wrong("an object");
        }

        foreach (var member in _value.EnumerateObject())
        {
            var name = Unescaped(() => member.Name);
            yield return (name, new JsonSection(member.Value, _file, _key.Length == 0 ? name : $"{_key}.{name}"));
        }
    }

    /// <summary>The elements of an array.</summary>
    public IReadOnlyList<JsonSection> Elements()
    {
        if (!IsArray)
        {
            throw Wrong("an array");
        }

        var file = _file;
        var key = _key;
        return [.. _value.EnumerateArray().Select((v, i) => new JsonSection(v, file, $"{key}[{i}]"))];
    }

    /// <summary>The text here.</summary>
    public string Text()
    {
        var value = _value;
        return IsString ? Unescaped(() => value.GetString()!) : throw Wrong("a string");
    }

    /// <summary>The text here, or null if absent.</summary>
    public string? TextOrNull() => IsNull ? null : Text();

    /// <summary>The one character here.</summary>
    public Rune Character()
    {
        var text = Text();
        return Rune.DecodeFromUtf16(text, out var rune, out var units) == System.Buffers.OperationStatus.Done && units == text.Length
            ? rune
            : throw Wrong("a single character");
    }

    /// <summary>The truth value here.</summary>
    public bool Flag() => _value.ValueKind switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => throw Wrong("true or false"),
    };

    /// <summary>The boolean here, or a default if absent.</summary>
    public bool Flag(bool otherwise) => IsNull ? otherwise : Flag();

    /// <summary>The truth value here, or null.</summary>
    public bool? FlagOrNull() => IsNull ? null : Flag();

    /// <summary>The whole number here, at least 0.</summary>
    public int Count() =>
        _value.ValueKind == JsonValueKind.Number && _value.TryGetInt32(out var number) && number >= 0 ? number : throw Wrong("a whole number from 0 on");

    /// <summary>The number here.</summary>
    public double Number() => _value.ValueKind == JsonValueKind.Number ? _value.GetDouble() : throw Wrong("a number");

    /// <summary>An error that names the file and the key.</summary>
    public InvalidDataException Error(string what) => new($"{_file}: {(_key.Length == 0 ? "the file" : _key)}: {what}");

    /// <summary>Reads text, whose escapes may be half of a surrogate pair.</summary>
    private T Unescaped<T>(Func<T> read)
    {
        try
        {
            return read();
        }
        catch (InvalidOperationException)
        {
            throw Error("has a string with half of a surrogate pair.");
        }
    }

    private InvalidDataException Wrong(string wanted) =>
        Error(_value.ValueKind == JsonValueKind.Undefined ? $"is missing; it must be {wanted}" : $"must be {wanted}, not {Describe()}");

    private string Describe()
    {
        var raw = _value.GetRawText();
        return raw.Length > 60 ? string.Concat(raw.AsSpan(0, 60), "...") : raw;
    }
}
