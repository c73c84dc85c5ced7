using NUnit.Framework;
using OpenWeights.Formats.Json;
using OpenWeights.Testing;

namespace OpenWeights.Formats.Tests.Json;

public sealed class JsonFileTests
{
    private TemporaryFolder folder = null!;

    [SetUp]
    public void CreateFolder() => folder = new TemporaryFolder();

    [TearDown]
    public void RemoveFolder() => folder.Dispose();

    [TestCase("{\n  \"a\": 1,\n  \"b\" 2\n}", "line 3, column 7")]
    [TestCase("{\"a\": 1,}", "line 1, column 9")]
    [TestCase("{\"é😀\": x}", "line 1, column 9")]
    [TestCase("{\n\n", "line 3, column 1")]
    [TestCase("", "line 1, column 1")]
    [TestCase("{\"a\": NaN}", "line 1, column 7")]
    [TestCase("{\n \"a\": \"\\ud800\"}", "line 2, column 7")]
    [TestCase("{} {}", "line 1, column 4")]
    public void Invalid_JSON_is_refused_with_line_and_column(string text, string expected)
    {
        File.WriteAllText(folder["config.json"], text);

        Assert.That(() => JsonFile.ReadObject(folder["config.json"]), Throws.InstanceOf<InvalidDataException>()
            .With.Message.StartsWith($"{folder["config.json"]}, {expected}: ").And.Message.Not.Contains("LineNumber"));
    }

    [Test]
    public void A_key_that_occurs_twice_is_refused_by_name()
    {
        File.WriteAllText(folder["config.json"], """{"hidden_size": 64, "hidden_size": 128}""");

        Assert.That(() => JsonFile.ReadObject(folder["config.json"]), Throws.InstanceOf<InvalidDataException>()
            .With.Message.Contains("hidden_size"));
    }

    [Test]
    public void Infinity_as_Python_writes_it_becomes_the_object_of_transformers_5_and_is_written_back()
    {
        const string text = """{"time_step_limit": [0.0, Infinity], "least": -Infinity, "text": "a \" Infinity"}""";
        File.WriteAllText(folder["config.json"], text);

        var json = JsonFile.ReadObject(folder["config.json"]);

        Assert.That(json["time_step_limit"]![1]!["__float__"]!.ToString(), Is.EqualTo("Infinity"));
        Assert.That(json["least"]!["__float__"]!.ToString(), Is.EqualTo("-Infinity"));
        Assert.That(json["text"]!.ToString(), Is.EqualTo("a \" Infinity"));
        Assert.That(JsonFile.WithPlainInfinity(json.ToJsonString()), Is.EqualTo(text.Replace(", ", ",").Replace(": ", ":").Replace("\\\"", "\\u0022")));
    }

    [TestCase("[1]")]
    [TestCase("null")]
    [TestCase("3")]
    public void What_is_no_object_is_refused(string text)
    {
        File.WriteAllText(folder["config.json"], text);

        Assert.That(() => JsonFile.ReadObject(folder["config.json"]), Throws.InstanceOf<InvalidDataException>()
            .With.Message.Contains("JSON object"));
    }

    [Test]
    public void Bytes_that_are_not_UTF8_are_refused_and_a_byte_order_mark_is_passed_over()
    {
        File.WriteAllBytes(folder["latin.json"], [(byte)'{', (byte)'"', 0xe9, (byte)'"', (byte)':', (byte)'1', (byte)'}']);
        File.WriteAllBytes(folder["marked.json"], [0xef, 0xbb, 0xbf, .. "{\"a\":1}"u8]);

        Assert.That(() => JsonFile.ReadObject(folder["latin.json"]), Throws.InstanceOf<InvalidDataException>()
            .With.Message.Contains("UTF-8"));
        Assert.That(JsonFile.ReadObject(folder["marked.json"])["a"]!.GetValue<int>(), Is.EqualTo(1));
        Assert.That(() => JsonFile.ReadObject(folder["none.json"]), Throws.InstanceOf<FileNotFoundException>());
    }
}
