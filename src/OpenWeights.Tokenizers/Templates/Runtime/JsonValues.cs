using System.Globalization;
using System.Numerics;
using System.Text.Json;
using System.Text.Json.Nodes;

using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>Converts JSON to the values that Python's <c>json.loads</c> returns.</summary>
internal static class JsonValues
{
    /// <exception cref="InvalidDataException">The JSON holds what no Python value stands for, such as half of a surrogate pair.</exception>
    public static object? Convert(JsonNode? node, Mark mark = default)
    {
        TemplateFailure.GuardStack();
        switch (node)
        {
            case null:
                return null;
            case JsonObject json:
                return Object(json, default, _ => mark);
            case JsonArray array:
                return new PyList([.. array.Select(item => Convert(item, mark))]);
            default:
                return Scalar((JsonValue)node, mark);
        }
    }

    /// <summary>The messages of a conversation, each knowing its place and each string whose it is.</summary>
    public static PyList Messages(JsonArray messages)
    {
        var converted = new List<object?>(messages.Count);
        for (var i = 0; i < messages.Count; i++)
        {
            var content = new Mark { Owner = i + 1, Kind = MarkKind.Content };
            converted.Add(messages[i] is JsonObject message
                ? Object(message, content, name => name is "role" or "name" ? content with { Kind = MarkKind.Role } : content)
                : Convert(messages[i], content));
        }

        return new PyList(converted);
    }

    private static PyDict Object(JsonObject json, Mark message, Func<string, Mark> markOf)
    {
        var dict = new PyDict { Turn = message.Owner };
        try
        {
            foreach (var (name, value) in json)
            {
                dict.Set(Text(name, markOf(name)), Convert(value, markOf(name)));
            }
        }
        catch (ArgumentException duplicate)
        {
            throw new InvalidDataException($"{json.GetPath()}: the object has a key twice", duplicate);
        }

        return dict;
    }

    private static object? Scalar(JsonValue value, Mark mark)
    {
        try
        {
            return value.GetValueKind() switch
            {
                JsonValueKind.String => Text(value.GetValue<string>(), mark),
                JsonValueKind.True => true,
                JsonValueKind.False => false,
                JsonValueKind.Null => null,
                _ => Number(value.ToJsonString()),
            };
        }
        catch (InvalidOperationException invalid)
        {
            throw new InvalidDataException($"{value.GetPath()}: the string holds half of a surrogate pair, which is no text", invalid);
        }
    }

    private static PyString Text(string text, Mark mark) =>
        new(text, mark == default || text.Length == 0 ? null : [new MarkRun(text.Length, mark)]);

    private static object Number(string text)
    {
        if (text.AsSpan().IndexOfAny('.', 'e', 'E') >= 0)
        {
            return double.Parse(text, CultureInfo.InvariantCulture);
        }

        return text.Length <= RenderLimits.IntegerBits / 4
            ? PyOperators.Normal(BigInteger.Parse(text, CultureInfo.InvariantCulture))
            : throw new InvalidDataException($"a number of {text.Length} digits is more than a chat template can be given");
    }
}
