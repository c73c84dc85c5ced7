using System.Globalization;
using System.Text.Json.Nodes;
using FsCheck;
using FsCheck.Fluent;
using NUnit.Framework;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Tests.Json;

public sealed class PythonJsonTests
{
    // What CPython's json.dumps prints for these floats.
    [TestCase(0.0, "0.0")]
    [TestCase(-0.0, "-0.0")]
    [TestCase(1.0, "1.0")]
    [TestCase(-1.5, "-1.5")]
    [TestCase(0.1, "0.1")]
    [TestCase(0.0001, "0.0001")]
    [TestCase(0.00012345, "0.00012345")]
    [TestCase(0.00001, "1e-05")]
    [TestCase(0.000015, "1.5e-05")]
    [TestCase(1e-10, "1e-10")]
    [TestCase(1e-100, "1e-100")]
    [TestCase(100.0, "100.0")]
    [TestCase(10000.0, "10000.0")]
    [TestCase(500000.0, "500000.0")]
    [TestCase(1e15, "1000000000000000.0")]
    [TestCase(9999999999999998.0, "9999999999999998.0")]
    [TestCase(1e16, "1e+16")]
    [TestCase(12345678901234567890.0, "1.2345678901234567e+19")]
    [TestCase(1e22, "1e+22")]
    [TestCase(1e300, "1e+300")]
    [TestCase(123456.789, "123456.789")]
    [TestCase(0.30000000000000004, "0.30000000000000004")]
    [TestCase(5e-324, "5e-324")]
    [TestCase(1.7976931348623157e308, "1.7976931348623157e+308")]
    public void A_float_is_written_as_Python_writes_it(double value, string expected)
    {
        var digits = value.ToString("R", CultureInfo.InvariantCulture);
        var asRead = JsonNode.Parse(digits.AsSpan().IndexOfAny('.', 'E') >= 0 ? digits : digits + ".0");

        Assert.That(PythonJson.Serialize(JsonValue.Create(value)), Is.EqualTo(expected));
        Assert.That(PythonJson.Serialize(asRead), Is.EqualTo(expected));
    }

    [Test]
    public void Any_finite_float_reads_back_as_itself_and_always_looks_like_a_float()
    {
        var property = Prop.ForAll(ArbMap.Default.ArbFor<double>().Filter(double.IsFinite), value =>
        {
            var text = PythonJson.Repr(value);
            return BitConverter.DoubleToInt64Bits(double.Parse(text, CultureInfo.InvariantCulture)) == BitConverter.DoubleToInt64Bits(value)
                && text.AsSpan().IndexOfAny('.', 'e') >= 0;
        });

        Check.One(Config.QuickThrowOnFailure.WithMaxTest(2000), property);
    }

    [Test]
    public void Numbers_keep_their_kind_whether_read_or_made()
    {
        var read = JsonNode.Parse("""{"a": 1, "b": 1.0, "c": 1e2, "d": 123456789012345678901234567890, "e": -0, "f": -0.0}""");
        var made = new JsonObject { ["a"] = 8, ["b"] = 8.0, ["c"] = 0.1f, ["d"] = 2L, ["e"] = 0.05m, ["f"] = (byte)3 };

        Assert.That(PythonJson.Serialize(read, indent: null),
            Is.EqualTo("""{"a": 1, "b": 1.0, "c": 100.0, "d": 123456789012345678901234567890, "e": 0, "f": -0.0}"""));
        Assert.That(PythonJson.Serialize(made, indent: null), Is.EqualTo("""{"a": 8, "b": 8.0, "c": 0.1, "d": 2, "e": 0.05, "f": 3}"""));
    }

    [Test]
    public void Layout_is_that_of_json_dumps_with_and_without_indentation()
    {
        var value = JsonNode.Parse("""{"z": [1, [], {}, {"k": [true, false, null]}], "a": "x"}""");

        Assert.That(PythonJson.Serialize(value), Is.EqualTo(
            """
            {
              "a": "x",
              "z": [
                1,
                [],
                {},
                {
                  "k": [
                    true,
                    false,
                    null
                  ]
                }
              ]
            }
            """.ReplaceLineEndings("\n")));
        Assert.That(PythonJson.Serialize(value, indent: null, sortKeys: false),
            Is.EqualTo("""{"z": [1, [], {}, {"k": [true, false, null]}], "a": "x"}"""));
        Assert.That(PythonJson.Serialize(null), Is.EqualTo("null"));
    }

    [Test]
    public void Strings_are_escaped_as_Python_escapes_them()
    {
        var value = JsonValue.Create("a\"b\\c/d\b\f\n\r\t\u0001\u007f é <&> 😀");

        Assert.That(PythonJson.Serialize(value), Is.EqualTo("\"a\\\"b\\\\c/d\\b\\f\\n\\r\\t\\u0001\\u007f \\u00e9 <&> \\ud83d\\ude00\""));
        Assert.That(PythonJson.Serialize(value, ensureAscii: false), Is.EqualTo("\"a\\\"b\\\\c/d\\b\\f\\n\\r\\t\\u0001\u007f é <&> 😀\""));
    }

    [Test]
    public void Keys_are_sorted_by_code_points_at_every_level()
    {
        var inner = new JsonObject { ["d"] = 1, ["C"] = 2 };
        var value = new JsonObject { ["\U0001F600"] = 1, ["\uffee"] = 2, ["b"] = inner, ["a"] = 3, ["aa"] = 4 };

        Assert.That(PythonJson.Serialize(value, indent: null, ensureAscii: false),
            Is.EqualTo("{\"a\": 3, \"aa\": 4, \"b\": {\"C\": 2, \"d\": 1}, \"\uffee\": 2, \"\U0001F600\": 1}"));
    }

    [Test]
    public void What_JSON_cannot_say_is_refused()
    {
        Assert.That(() => PythonJson.Serialize(JsonValue.Create(double.NaN)), Throws.ArgumentException);
        Assert.That(() => PythonJson.Serialize(JsonNode.Parse("1e999")), Throws.ArgumentException);
        Assert.That(() => PythonJson.Serialize(JsonValue.Create(1), indent: -1), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }
}
