using System.Buffers.Binary;
using System.Diagnostics;
using System.Text;
using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Formats.Tests.Support;
using OpenWeights.Testing;

namespace OpenWeights.Formats.Tests.Safetensors;

public sealed class SafetensorsRefusalTests
{
    private TemporaryFolder folder = null!;

    private static IEnumerable<TestCaseData> BadHeaders =>
    [
        Case("not JSON", "{\"a\":", 0, "not valid JSON"),
        Case("an array", "[]", 0, "not a JSON object"),
        Case("text behind the object", "{} x", 0, "not valid JSON"),
        Case("a comment", "{/* */}", 0, "not valid JSON"),
        Case("half a surrogate pair", "{\"\\ud800\":{}}", 0, "not valid JSON"),
        Case("a name twice", RawFile.Header(RawFile.Tensor("a", "U8", "1", 0, 1), RawFile.Tensor("a", "U8", "1", 1, 2)), 2, "\"a\" twice"),
        Case("metadata twice", """{"__metadata__":{},"__metadata__":{}}""", 0, "\"__metadata__\" twice"),
        Case("a metadata key twice", """{"__metadata__":{"k":"1","k":"2"}}""", 0, "\"k\" twice"),
        Case("metadata that is no text", """{"__metadata__":{"k":1}}""", 0, "\"k\" in __metadata__ is not a string"),
        Case("metadata that is no object", """{"__metadata__":[]}""", 0, "__metadata__ is not an object"),
        Case("a tensor that is no object", """{"a":7}""", 0, "\"a\" is not an object"),
        Case("no dtype", """{"a":{"shape":[1],"data_offsets":[0,1]}}""", 1, "\"a\" has no dtype"),
        Case("no shape", """{"a":{"dtype":"U8","data_offsets":[0,1]}}""", 1, "\"a\" has no shape"),
        Case("no offsets", """{"a":{"dtype":"U8","shape":[1]}}""", 1, "\"a\" has no data_offsets"),
        Case("dtype twice", """{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", 1, "\"a\" has dtype twice"),
        Case("an unknown dtype", RawFile.Header(RawFile.Tensor("a", "F12", "1", 0, 1)), 1, "\"a\" has the dtype \"F12\""),
        Case("a dtype in small letters", RawFile.Header(RawFile.Tensor("a", "f32", "1", 0, 4)), 4, "\"f32\""),
        Case("a dtype that is a number", """{"a":{"dtype":17,"shape":[4],"data_offsets":[0,4]}}""", 4,
            "dtype of the tensor \"a\" is not a string"),
        Case("a negative dimension", RawFile.Header(RawFile.Tensor("a", "U8", "-1", 0, 1)), 1, "shape of the tensor \"a\""),
        Case("a fractional dimension", RawFile.Header(RawFile.Tensor("a", "U8", "1.0", 0, 1)), 1, "shape of the tensor \"a\""),
        Case("a dimension in quotes", RawFile.Header(RawFile.Tensor("a", "U8", "\"1\"", 0, 1)), 1, "shape of the tensor \"a\""),
        Case("a nested shape", RawFile.Header(RawFile.Tensor("a", "U8", "[1]", 0, 1)), 1, "shape of the tensor \"a\""),
        Case("a dimension beyond 64 bits", RawFile.Header(RawFile.Tensor("a", "U8", "99999999999999999999", 0, 1)), 1,
            "shape of the tensor \"a\""),
        Case("three offsets", """{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}""", 1,
            "data_offsets of the tensor \"a\" are 3 numbers"),
        Case("negative offsets", RawFile.Header(RawFile.Tensor("a", "U8", "1", -1, 0)), 1, "data_offsets of the tensor \"a\""),
        Case("reversed offsets", RawFile.Header(RawFile.Tensor("a", "U8", "1", 9, 8)), 9, "\"a\" ends at 8, before its start at 9"),
        Case("a shape that overflows", RawFile.Header(RawFile.Tensor("a", "U8", "4294967296,4294967296,4294967296", 0, 0)), 0,
            "\"a\" is impossible"),
        Case("a shape that overflows to zero", RawFile.Header(RawFile.Tensor("a", "U8", "4294967296,4294967296,0", 0, 0)), 0,
            "\"a\" is impossible"),
        Case("bytes that overflow", RawFile.Header(RawFile.Tensor("a", "F64", "2305843009213693952", 0, 0)), 0, "\"a\" is impossible"),
        Case("half a byte", RawFile.Header(RawFile.Tensor("a", "F4", "3", 0, 1)), 1, "do not fill whole bytes"),
        Case("a shape larger than its span", RawFile.Header(RawFile.Tensor("a", "F32", "2,3", 0, 23)), 23,
            "\"a\" of dtype F32 and shape [2,3] needs 24 bytes, but its data_offsets span 23"),
        Case("an overlap", RawFile.Header(RawFile.Tensor("a", "U8", "4", 0, 4), RawFile.Tensor("b", "U8", "4", 3, 7)), 7,
            "\"a\" and \"b\" overlap by 1 byte"),
        Case("two tensors in one place", RawFile.Header(RawFile.Tensor("a", "U8", "4", 0, 4), RawFile.Tensor("b", "U8", "4", 0, 4)), 4,
            "\"a\" and \"b\" overlap by 4 bytes"),
        Case("a hole", RawFile.Header(RawFile.Tensor("a", "U8", "4", 0, 4), RawFile.Tensor("b", "U8", "4", 6, 10)), 10,
            "2 bytes before the tensor \"b\" belong to no tensor"),
        Case("a hole at the start", RawFile.Header(RawFile.Tensor("a", "U8", "4", 1, 5)), 5, "1 byte before the tensor \"a\""),
        Case("a byte too few", RawFile.Header(RawFile.Tensor("a", "U8", "4", 0, 4), RawFile.Tensor("b", "U8", "4", 4, 8)), 7,
            "cut off within the tensor \"b\""),
        Case("a tensor beyond the file", RawFile.Header(RawFile.Tensor("a", "U8", "9223372036854775807", 0, long.MaxValue)), 4,
            "cut off within the tensor \"a\""),
        Case("a byte too many", RawFile.Header(RawFile.Tensor("a", "U8", "4", 0, 4)), 5, "1 byte too many after its last tensor \"a\""),
        Case("bytes without a tensor", "{}", 3, "3 bytes too many after its header"),
    ];

    [SetUp]
    public void CreateFolder() => folder = new TemporaryFolder();

    [TearDown]
    public void RemoveFolder() => folder.Dispose();

    [TestCaseSource(nameof(BadHeaders))]
    public void An_absurd_header_is_refused_with_file_and_reason_and_advice(string header, int dataLength, string expected) =>
        Assert.That(Refusal(RawFile.Bytes(header, dataLength)), Does.StartWith($"{folder["bad.safetensors"]}: ")
            .And.Contain(expected).And.EndsWith("download or copy it again"));

    [Test]
    public void A_header_that_is_not_UTF8_is_refused() =>
        Assert.That(Refusal(RawFile.Bytes([(byte)'{', (byte)'"', 0xff, (byte)'"', (byte)':', (byte)'1', (byte)'}'])),
            Does.Contain("not valid UTF-8"));

    [TestCase(0UL, "its header has no bytes")]
    [TestCase(21UL, "the header has 21 bytes, but the file ends after 28 bytes")]
    [TestCase(100_000_001UL, "100000001 bytes")]
    [TestCase(1UL << 63, "9223372036854775808 bytes")]
    [TestCase(ulong.MaxValue, "18446744073709551615 bytes")]
    public void A_wrong_header_length_is_refused(ulong length, string expected)
    {
        var bytes = RawFile.Bytes("{}" + new string(' ', 18));
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, length);

        Assert.That(Refusal(bytes), Does.Contain(expected));
    }

    [TestCase("", "the file is empty")]
    [TestCase("abc", "the file ends after 3 bytes")]
    [TestCase("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "Git LFS pointer")]
    [TestCase("<!DOCTYPE html><html><body>Sign in</body></html>", "web page")]
    [TestCase("\n  <html>", "web page")]
    [TestCase("{\"error\":\"Access to this model is restricted\"}", "it is a text")]
    [TestCase("PK\u0003\u0004\u0014\0\0\0\0\0", "PyTorch file")]
    [TestCase("GGUF\u0003\0\0\0\0\0\0\0", "GGUF file")]
    public void What_is_no_safetensors_file_at_all_is_called_by_its_name(string content, string expected) =>
        Assert.That(Refusal(Encoding.ASCII.GetBytes(content)), Does.StartWith(folder["bad.safetensors"]).And.Contain(expected));

    [Test]
    public void A_real_model_with_one_byte_missing_is_refused_with_the_file_and_the_tensor()
    {
        var model = File.ReadAllBytes(SharedFiles.Require("goldens", "reference", "llama", "model.safetensors"));

        Assert.That(Refusal(model[..^1]), Does.Contain("bad.safetensors").And.Contain("\"model.norm.weight\"")
            .And.Contain("it should have 1 byte more"));
        Assert.That(Refusal([.. model, 0]), Does.Contain("1 byte too many").And.Contain("\"model.norm.weight\""));
        Assert.That(Refusal(model[..200_000]), Does.Contain("cut off within the tensor \"model.layers.0."));
        Assert.That(Refusal(model[..1000]), Does.Contain($"the header has {BitConverter.ToUInt64(model)} bytes, but the file ends after 1000 bytes"));
    }

    [Test]
    public void A_name_made_to_garble_the_message_is_shown_tame()
    {
        var name = "\\u001b[31m" + new string('x', 5000);

        Assert.That(Refusal(RawFile.Bytes(RawFile.Header(RawFile.Tensor(name, "U8", "2", 0, 1)), 1)),
            Does.Not.Contain("\u001b").And.Contain("\\u001b[31mxxx").And.Length.LessThan(600));
    }

    [Test]
    public void A_hundred_thousand_tensors_are_read_quickly_and_a_fault_among_them_is_found()
    {
        var entries = Enumerable.Range(0, 100_000).Select(i =>
            RawFile.Tensor($"model.layers.{i}.weight", "U8", "1,2", i * 2, (i + 1) * 2)).ToArray();
        File.WriteAllBytes(folder["many.safetensors"], RawFile.Bytes(RawFile.Header(entries), 200_000));
        var clock = Stopwatch.StartNew();
        using (var file = SafetensorsFile.Open(folder["many.safetensors"]))
        {
            Assert.That(file.Tensors, Has.Count.EqualTo(100_000));
            Assert.That(file.ReadBytes("model.layers.77777.weight"), Is.EqualTo(new byte[] { 155554 % 256, 155555 % 256 }));
        }

        Assert.That(clock.Elapsed, Is.LessThan(TimeSpan.FromSeconds(10)));
        entries[55_555] = entries[55_555].Replace("[1,2]", "[1,3]", StringComparison.Ordinal);
        Assert.That(Refusal(RawFile.Bytes(RawFile.Header(entries), 200_000)), Does.Contain("\"model.layers.55555.weight\""));
    }

    [Test]
    public void Nesting_without_end_is_refused()
    {
        var deep = string.Concat(Enumerable.Repeat("{\"a\":", 100_000));

        Assert.That(Refusal(RawFile.Bytes(deep)), Does.Contain("not valid JSON").Or.Contain("not an object"));
    }

    private static TestCaseData Case(string name, string header, int dataLength, string expected) =>
        new TestCaseData(header, dataLength, expected).SetArgDisplayNames(name);

    private string Refusal(byte[] bytes)
    {
        File.WriteAllBytes(folder["bad.safetensors"], bytes);
        return Assert.Throws<InvalidDataException>(() => SafetensorsFile.Open(folder["bad.safetensors"]).Dispose())!.Message;
    }
}
