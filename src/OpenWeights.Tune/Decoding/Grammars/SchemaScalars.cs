using System.Numerics;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>Reads what schemas say of strings and numbers, and values themselves.</summary>
internal static class SchemaScalars
{
    /// <summary>The strings of a schema.</summary>
    internal static GrammarNode String(JsonObject map, string path)
    {
        CharAutomaton? texts = null;
        if (SchemaKeywords.Text(map, "pattern", path) is { } pattern)
        {
            texts = PatternParser.Parse(pattern);
        }

        if (SchemaKeywords.Text(map, "format", path) is { } format)
        {
            var known = StringFormats.Find(format) ?? throw SchemaKeywords.Error(path, $"has the format \"{format}\", which cannot be enforced; those that can are {string.Join(", ", StringFormats.Names)}");
            texts = texts?.And(known) ?? known;
        }

        var (least, most) = (SchemaKeywords.Count(map, "minLength", path) ?? 0, SchemaKeywords.Count(map, "maxLength", path));
        if (least > 0 || most is not null)
        {
            var lengths = CharAutomaton.OfLength(least, most);
            texts = texts?.And(lengths) ?? lengths;
        }

        return texts is null ? JsonValues.String : texts.IsEmpty ? GrammarNode.Nothing : JsonValues.Text(texts);
    }

    /// <summary>The whole numbers of a schema.</summary>
    internal static GrammarNode Integer(JsonObject map, string path)
    {
        var (least, most) = SchemaKeywords.Text(map, "format", path) switch
        {
            "int32" => ((BigInteger?)int.MinValue, (BigInteger?)int.MaxValue),
            "int64" => (long.MinValue, long.MaxValue),
            "uint32" => (0, uint.MaxValue),
            "uint64" => (0, ulong.MaxValue),
            _ => (null, null),
        };
        var isDraft4 = map["exclusiveMinimum"] is JsonValue flag && flag.GetValueKind() is JsonValueKind.True or JsonValueKind.False;
        var isDraft4AtEnd = map["exclusiveMaximum"] is JsonValue other && other.GetValueKind() is JsonValueKind.True or JsonValueKind.False;
        if (SchemaKeywords.Number(map, "minimum", path) is { } minimum)
        {
            least = Larger(least, isDraft4 && map["exclusiveMinimum"]!.GetValue<bool>() ? Above(minimum) : new BigInteger(decimal.Ceiling(minimum)));
        }

        if (SchemaKeywords.Number(map, "maximum", path) is { } maximum)
        {
            most = Smaller(most, isDraft4AtEnd && map["exclusiveMaximum"]!.GetValue<bool>() ? Below(maximum) : new BigInteger(decimal.Floor(maximum)));
        }

        if (!isDraft4 && SchemaKeywords.Number(map, "exclusiveMinimum", path) is { } above)
        {
            least = Larger(least, Above(above));
        }

        if (!isDraft4AtEnd && SchemaKeywords.Number(map, "exclusiveMaximum", path) is { } below)
        {
            most = Smaller(most, Below(below));
        }

        return least is null && most is null ? JsonValues.Integer : IntegerRange.Of(least, most);
    }

    /// <summary>The numbers of a schema.</summary>
    internal static GrammarNode Number(JsonObject map, string path)
    {
        var bound = Array.Find(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"], map.ContainsKey);
        return bound is null ? JsonValues.Number : throw SchemaKeywords.Error(path, $"has \"{bound}\" for numbers, which can be enforced for integers alone; set \"type\": \"integer\", or leave it out");
    }

    /// <summary>A value itself.</summary>
    internal static GrammarNode Value(JsonNode? value) => value switch
    {
        JsonObject map => JsonValues.Braces(Joined([.. map.Select(static m => GrammarNode.Row(GrammarNode.Of(SchemaKeywords.Quoted(m.Key)), JsonValues.Colon, Value(m.Value)))])),
        JsonArray list => JsonValues.Brackets(Joined([.. list.Select(Value)])),
        JsonValue text when text.GetValueKind() == JsonValueKind.String => GrammarNode.Of(SchemaKeywords.Quoted(text.GetValue<string>())),
        null => JsonValues.Null,
        _ => GrammarNode.Of(value.ToJsonString()),
    };

    /// <summary>Whether a value is of a type.</summary>
    internal static bool IsOf(JsonNode? value, string type) => value?.GetValueKind() switch
    {
        JsonValueKind.Object => type == "object",
        JsonValueKind.Array => type == "array",
        JsonValueKind.String => type == "string",
        JsonValueKind.True or JsonValueKind.False => type == "boolean",
        JsonValueKind.Number => type == "number" || (type == "integer" && value.AsValue().TryGetValue<decimal>(out var number) && number == decimal.Truncate(number)),
        _ => type == "null",
    };

    private static GrammarNode Joined(List<GrammarNode> parts) => GrammarNode.Row([.. parts.SelectMany(static (p, i) => i == 0 ? new[] { p } : [JsonValues.Comma, p])]);

    private static BigInteger Above(decimal bound) => new BigInteger(decimal.Floor(bound)) + 1;

    private static BigInteger Below(decimal bound) => new BigInteger(decimal.Ceiling(bound)) - 1;

    private static BigInteger Larger(BigInteger? one, BigInteger other) => one is { } value ? BigInteger.Max(value, other) : other;

    private static BigInteger Smaller(BigInteger? one, BigInteger other) => one is { } value ? BigInteger.Min(value, other) : other;
}
