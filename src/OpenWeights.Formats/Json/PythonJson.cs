using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Formats.Json;

/// <summary>
/// Writes JSON as Python's <c>json.dumps</c> does, so that files written here are byte for byte what PEFT and transformers write
/// (<see href="https://docs.python.org/3/library/json.html#json.dumps"/>).
/// </summary>
internal static class PythonJson
{
    /// <summary>The text that <c>json.dumps(value, indent=..., sort_keys=..., ensure_ascii=...)</c> gives; no newline at its end.</summary>
    /// <param name="node">The value; null is JSON's null. A floating-point number is written with Python's <c>repr</c> (0.0,
    /// 1e-05), an integer as it is.</param>
    /// <param name="indent">Spaces a level, as <c>indent</c>; null writes one line with ", " and ": " between the parts.</param>
    /// <param name="sortKeys">Whether the keys of every object are sorted by code point, as <c>sort_keys</c>.</param>
    /// <param name="ensureAscii">Whether characters outside printable ASCII are written as <c>\uXXXX</c>, as <c>ensure_ascii</c>.</param>
    /// <exception cref="ArgumentException">A number is not finite, or <paramref name="indent"/> is negative.</exception>
    public static string Serialize(JsonNode? node, int? indent = 2, bool sortKeys = true, bool ensureAscii = true)
    {
        if (indent < 0)
        {
            throw new ArgumentOutOfRangeException(nameof(indent), indent, "the indentation is a number of spaces, zero or more");
        }

        var writer = new Writer(indent, sortKeys, ensureAscii);
        writer.Append(node, 0);
        return writer.ToString();
    }

    /// <summary>Python's <c>repr</c> of a float: the shortest digits that give the same number back, with an exponent below 1e-4
    /// and from 1e16 on.</summary>
    /// <exception cref="ArgumentException">The number is NaN or infinite, which JSON cannot say.</exception>
    internal static string Repr(double value) => Repr(value, value.ToString("R", CultureInfo.InvariantCulture));

    /// <summary>Appends a string in quotes; without <paramref name="ensureAscii"/> this is also what Rust's serde_json writes.</summary>
    internal static void AppendString(StringBuilder text, string value, bool ensureAscii)
    {
        text.Append('"');
        foreach (var unit in value)
        {
            _ = unit switch
            {
                '"' => text.Append("\\\""),
                '\\' => text.Append("\\\\"),
                '\n' => text.Append("\\n"),
                '\r' => text.Append("\\r"),
                '\t' => text.Append("\\t"),
                '\f' => text.Append("\\f"),
                '\b' => text.Append("\\b"),
                < ' ' => AppendEscaped(text, unit),
                > '~' when ensureAscii => AppendEscaped(text, unit),
                _ => text.Append(unit),
            };
        }

        text.Append('"');
    }

    private static StringBuilder AppendEscaped(StringBuilder text, char unit) =>
        text.Append(CultureInfo.InvariantCulture, $"\\u{(int)unit:x4}");

    private static string Repr(double value, string shortest)
    {
        if (!double.IsFinite(value))
        {
            throw new ArgumentException($"{shortest} cannot be written as JSON", nameof(value));
        }

        var sign = shortest.StartsWith('-') ? "-" : "";
        var (digits, point) = Decompose(shortest.AsSpan(sign.Length));
        return point switch
        {
            > 16 or < -3 => sign + Scientific(digits, point - 1),
            <= 0 => $"{sign}0.{new string('0', -point)}{digits}",
            _ when digits.Length <= point => $"{sign}{digits.PadRight(point, '0')}.0",
            _ => $"{sign}{digits[..point]}.{digits[point..]}",
        };
    }

    /// <summary>The significant digits, and the place of the decimal point counted from before the first of them.</summary>
    private static (string Digits, int Point) Decompose(ReadOnlySpan<char> shortest)
    {
        var exponentAt = shortest.IndexOf('E');
        var mantissa = exponentAt < 0 ? shortest : shortest[..exponentAt];
        var exponent = exponentAt < 0
            ? 0
            : int.Parse(shortest[(exponentAt + 1)..], NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture);
        var dot = mantissa.IndexOf('.');
        var point = (dot < 0 ? mantissa.Length : dot) + exponent;
        var all = mantissa.ToString().Replace(".", "", StringComparison.Ordinal);
        var digits = all.TrimStart('0');
        return digits.Length == 0 ? ("0", 1) : (digits.TrimEnd('0'), point - (all.Length - digits.Length));
    }

    private static string Scientific(string digits, int exponent)
    {
        var fraction = digits.Length > 1 ? $".{digits[1..]}" : "";
        var exponentSign = exponent < 0 ? '-' : '+';
        return string.Create(CultureInfo.InvariantCulture, $"{digits[0]}{fraction}e{exponentSign}{Math.Abs(exponent):00}");
    }

    private sealed class Writer(int? indent, bool sortKeys, bool ensureAscii)
    {
        private readonly StringBuilder text = new();

        public override string ToString() => text.ToString();

        public void Append(JsonNode? node, int depth)
        {
            switch (node)
            {
                case null:
                    text.Append("null");
                    break;
                case JsonObject fields:
                    AppendObject(fields, depth);
                    break;
                case JsonArray items:
                    AppendParts('[', items, ']', depth, item => Append(item, depth + 1));
                    break;
                case JsonValue value:
                    AppendValue(value);
                    break;
            }
        }

        private void AppendObject(JsonObject fields, int depth)
        {
            IEnumerable<KeyValuePair<string, JsonNode?>> ordered =
                sortKeys ? fields.OrderBy(field => field.Key, CodePointOrder.Instance) : fields;
            AppendParts('{', ordered, '}', depth, field =>
            {
                AppendString(text, field.Key, ensureAscii);
                text.Append(": ");
                Append(field.Value, depth + 1);
            });
        }

        private void AppendParts<T>(char open, IEnumerable<T> parts, char close, int depth, Action<T> append)
        {
            text.Append(open);
            var first = true;
            foreach (var part in parts)
            {
                if (!first)
                {
                    text.Append(indent is null ? ", " : ",");
                }

                first = false;
                AppendLineBreak(depth + 1);
                append(part);
            }

            if (!first)
            {
                AppendLineBreak(depth);
            }

            text.Append(close);
        }

        private void AppendLineBreak(int depth)
        {
            if (indent is { } spaces)
            {
                text.Append('\n').Append(' ', spaces * depth);
            }
        }

        private void AppendValue(JsonValue value)
        {
            switch (value.GetValueKind())
            {
                case JsonValueKind.String:
                    AppendString(text, value.TryGetValue<string>(out var words) ? words : value.ToString(), ensureAscii);
                    break;
                case JsonValueKind.Number:
                    text.Append(Number(value));
                    break;
                case var kind:
                    text.Append(kind switch { JsonValueKind.True => "true", JsonValueKind.False => "false", _ => "null" });
                    break;
            }
        }

        /// <summary>A number that was read keeps its kind: with a point or an exponent it is a float to Python, otherwise an
        /// integer.</summary>
        private static string Number(JsonValue value)
        {
            if (value.TryGetValue<float>(out var single) && !value.TryGetValue<JsonElement>(out _))
            {
                return Repr(single, single.ToString("R", CultureInfo.InvariantCulture));
            }

            if (!value.TryGetValue<JsonElement>(out var element))
            {
                return value.TryGetValue<double>(out var number) ? Repr(number)
                    : value.TryGetValue<decimal>(out var exact) ? Repr((double)exact)
                    : value.ToJsonString();
            }

            var raw = element.GetRawText();
            return raw.AsSpan().IndexOfAny('.', 'e', 'E') >= 0 ? Repr(element.GetDouble()) : raw == "-0" ? "0" : raw;
        }
    }
}

/// <summary>
/// Compares strings by Unicode code points, which is the order of their UTF-8 bytes: how Python sorts keys and how Rust sorts names.
/// The ordinal order of .NET compares UTF-16 units and differs where characters beyond U+FFFF meet U+E000 to U+FFFF.
/// </summary>
internal sealed class CodePointOrder : IComparer<string>
{
    public static readonly CodePointOrder Instance = new();

    public int Compare(string? x, string? y)
    {
        if (x is null || y is null)
        {
            return Comparer<object>.Default.Compare(x, y);
        }

        var common = x.AsSpan().CommonPrefixLength(y);
        return common == x.Length || common == y.Length
            ? x.Length.CompareTo(y.Length)
            : Rank(x[common]).CompareTo(Rank(y[common]));
    }

    private static int Rank(char unit) => char.IsSurrogate(unit) ? unit + 0x10000 : unit;
}
