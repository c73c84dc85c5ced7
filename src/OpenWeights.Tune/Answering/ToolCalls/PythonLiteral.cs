using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>Reads values as Python writes them: True, False, None, texts in single quotes, lists and dictionaries.</summary>
internal sealed class PythonLiteral
{
    private const int Deepest = 64;

    private static readonly Dictionary<string, JsonNode?> s_words = new(StringComparer.Ordinal) { ["True"] = true, ["False"] = false, ["None"] = null };

    private readonly string _text;
    private int _at;

    private PythonLiteral(string text) => _text = text;

    /// <summary>Reads a value.</summary>
    /// <returns>Whether the text is one.</returns>
    internal static bool TryParse(string text, out JsonNode? value)
    {
        var reader = new PythonLiteral(text);
        try
        {
            value = reader.Value(0);
            reader.Space();
            return reader._at == text.Length;
        }
        catch (FormatException)
        {
            value = null;
            return false;
        }
    }

    private JsonNode? Value(int depth)
    {
        Space();
        if (depth > Deepest)
        {
            throw new FormatException();
        }

        switch (Peek())
        {
            case '{':
                var map = new JsonObject();
                Items('}', () =>
                {
                    var key = Value(depth + 1) is JsonValue name && name.GetValueKind() == JsonValueKind.String ? name.GetValue<string>() : throw new FormatException();
                    Space();
                    Require(':');
                    map[key] = Value(depth + 1);
                });
                return map;
            case '[':
                var list = new JsonArray();
                Items(']', () => list.Add(Value(depth + 1)));
                return list;
            case '\'' or '"':
                return Text();
            default:
                return Word();
        }
    }

    private void Items(char close, Action read)
    {
        _at++;
        for (Space(); Peek() != close; Space())
        {
            read();
            Space();
            if (Peek() != close)
            {
                Require(',');
            }
        }

        _at++;
    }

    private JsonValue Text()
    {
        var (quote, text) = (_text[_at++], new StringBuilder());
        while (Peek() != quote)
        {
            var letter = Next();
            _ = text.Append(letter != '\\' ? letter : Next() switch
            {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                var same and ('\\' or '\'' or '"') => same,
                _ => throw new FormatException(),
            });
        }

        _at++;
        return JsonValue.Create(text.ToString());
    }

    private JsonNode? Word()
    {
        var start = _at;
        while (_at < _text.Length && (char.IsLetterOrDigit(_text[_at]) || _text[_at] is '.' or '-' or '+'))
        {
            _at++;
        }

        var word = _text[start.._at];
        return s_words.TryGetValue(word, out var value) ? value?.DeepClone()
            : decimal.TryParse(word, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) ? JsonValue.Create(number)
            : throw new FormatException();
    }

    private void Space()
    {
        while (_at < _text.Length && char.IsWhiteSpace(_text[_at]))
        {
            _at++;
        }
    }

    private void Require(char expected)
    {
        if (Next() != expected)
        {
            throw new FormatException();
        }
    }

    private char Peek() => _at < _text.Length ? _text[_at] : throw new FormatException();

    private char Next()
    {
        var letter = Peek();
        _at++;
        return letter;
    }
}
