using System.Text.Json;
using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Formats.Tests.Support;
using OpenWeights.Testing;

namespace OpenWeights.Formats.Tests.Safetensors;

public sealed class SafetensorsFileTests
{
    private TemporaryFolder folder = null!;

    [SetUp]
    public void CreateFolder() => folder = new TemporaryFolder();

    [TearDown]
    public void RemoveFolder() => folder.Dispose();

    [Test]
    public void Every_tensor_of_a_trained_model_is_read_as_an_independent_reading_of_the_file_finds_it()
    {
        var path = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base", "model.safetensors");
        var raw = File.ReadAllBytes(path);
        var headerLength = (int)BitConverter.ToUInt64(raw);
        using var header = JsonDocument.Parse(raw.AsMemory(8, headerLength));
        using var file = SafetensorsFile.Open(path);

        Assert.That(file.Metadata, Is.EqualTo(new Dictionary<string, string> { ["format"] = "pt" }));
        Assert.That(file.Tensors, Has.Count.EqualTo(header.RootElement.EnumerateObject().Count() - 1));
        foreach (var tensor in file.Tensors)
        {
            var expected = header.RootElement.GetProperty(tensor.Name);
            var start = 8 + headerLength + expected.GetProperty("data_offsets")[0].GetInt32();
            var end = 8 + headerLength + expected.GetProperty("data_offsets")[1].GetInt32();
            Assert.That(tensor.DType.ToString(), Is.EqualTo(expected.GetProperty("dtype").GetString()));
            Assert.That(tensor.Shape, Is.EqualTo(expected.GetProperty("shape").EnumerateArray().Select(dimension => dimension.GetInt64())));
            Assert.That(file.ReadBytes(tensor.Name), Is.EqualTo(raw[start..end]));
        }
    }

    [Test]
    public void Tensors_come_in_the_order_of_their_bytes_whatever_the_order_of_the_header()
    {
        using var file = Open(RawFile.Header(RawFile.Tensor("a", "U8", "3", 5, 8), RawFile.Tensor("b", "F32", "", 1, 5),
            RawFile.Tensor("c", "I8", "1,1", 0, 1)), 8);

        Assert.That(file.Tensors.Select(tensor => tensor.ToString()), Is.EqualTo(new[] { "c I8 [1,1]", "b F32 []", "a U8 [3]" }));
        Assert.That(file.ReadBytes("a"), Is.EqualTo(new byte[] { 5, 6, 7 }));
        Assert.That(file.ReadBytes("b"), Is.EqualTo(new byte[] { 1, 2, 3, 4 }));
        Assert.That(file.GetTensor("b").ElementCount, Is.EqualTo(1));
        Assert.That(file.Metadata, Is.Null);
    }

    [Test]
    public void A_part_of_a_tensor_is_copied_from_its_own_offset()
    {
        using var file = Open(RawFile.Header(RawFile.Tensor("a", "U8", "4", 0, 4), RawFile.Tensor("b", "U8", "8", 4, 12)), 12);
        var part = new byte[3];
        file.CopyTo("b", 2, part);

        Assert.That(part, Is.EqualTo(new byte[] { 6, 7, 8 }));
    }

    [TestCase(-1, 1)]
    [TestCase(0, 9)]
    [TestCase(8, 1)]
    [TestCase(long.MaxValue, 2)]
    public void A_part_outside_the_tensor_is_refused(long offset, int length)
    {
        using var file = Open(RawFile.Header(RawFile.Tensor("a", "U8", "8", 0, 8), RawFile.Tensor("b", "U8", "8", 8, 16)), 16);

        Assert.That(() => file.CopyTo("a", offset, new byte[length]), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    [Test]
    public void A_tensor_without_elements_has_no_bytes()
    {
        using var file = Open(RawFile.Header(RawFile.Tensor("none", "F32", "0,7", 2, 2), RawFile.Tensor("some", "U8", "2", 0, 2)), 2);

        Assert.That(file.ReadBytes("none"), Is.Empty);
    }

    [Test]
    public void A_file_without_tensors_is_a_valid_file()
    {
        using var file = Open("{}", 0);

        Assert.That(file.Tensors, Is.Empty);
    }

    [Test]
    public void Fields_that_the_format_does_not_know_are_passed_over_as_the_reference_does()
    {
        using var file = Open("""{"a":{"dtype":"U8","note":{"x":[1,{}]},"shape":[1],"data_offsets":[0,1]},"__metadata__":null}""", 1);

        Assert.That(file.Tensors.Single().Name, Is.EqualTo("a"));
        Assert.That(file.Metadata, Is.Null);
    }

    [Test]
    public void A_tensor_above_two_gigabytes_is_read_in_all_its_parts()
    {
        const long length = 3L << 30;
        const long mark = (5L << 29) + 7;
        var header = RawFile.Bytes(RawFile.Header(RawFile.Tensor("large", "BF16", $"{length / 2}", 0, length)));
        using (var sparse = File.Create(folder["large.safetensors"]))
        {
            sparse.Write(header);
            sparse.SetLength(header.Length + length);
            sparse.Position = header.Length + mark;
            sparse.Write([1, 2, 3, 4]);
        }

        using var file = SafetensorsFile.Open(folder["large.safetensors"]);
        var part = new byte[6];
        file.CopyTo("large", mark - 1, part);

        Assert.That(file.GetTensor("large").ByteLength, Is.EqualTo(length));
        Assert.That(part, Is.EqualTo(new byte[] { 0, 1, 2, 3, 4, 0 }));
        file.CopyTo("large", length - 6, part);
        Assert.That(part, Is.All.Zero);
        Assert.That(() => file.ReadBytes("large"), Throws.ArgumentException.With.Message.Contains("3.0 GiB"));
    }

    [Test]
    public void Many_threads_read_one_file_at_once()
    {
        const int count = 64;
        var entries = Enumerable.Range(0, count).Select(i => RawFile.Tensor($"t{i}", "U8", "1000", i * 1000, (i + 1) * 1000)).ToArray();
        using var file = Open(RawFile.Header(entries), count * 1000);
        var wrong = 0;

        Parallel.For(0, 2000, new ParallelOptions { MaxDegreeOfParallelism = 8 }, round =>
        {
            var i = round % count;
            var copy = file.ReadBytes($"t{i}");
            var right = copy.Select((value, at) => value == (byte)((i * 1000) + at)).All(equal => equal);
            if (!right)
            {
                Interlocked.Increment(ref wrong);
            }
        });

        Assert.That(wrong, Is.Zero);
    }

    [Test]
    public void Reading_leaves_the_file_open_to_other_readers_and_unchanged()
    {
        using var file = Open(RawFile.Header(RawFile.Tensor("a", "U8", "8", 0, 8)), 8);
        var before = File.ReadAllBytes(file.Location);
        using var second = SafetensorsFile.Open(file.Location);

        Assert.That(second.ReadBytes("a"), Is.EqualTo(file.ReadBytes("a")));
        Assert.That(File.ReadAllBytes(file.Location), Is.EqualTo(before));
    }

    [Test]
    public void After_disposal_every_access_to_bytes_says_so()
    {
        var file = Open(RawFile.Header(RawFile.Tensor("a", "U8", "8", 0, 8)), 8);
        file.Dispose();
        file.Dispose();

        Assert.That(() => file.ReadBytes("a"), Throws.InstanceOf<ObjectDisposedException>());
    }

    [Test]
    public void A_missing_tensor_is_named_with_its_file()
    {
        using var file = Open("{}", 0);

        Assert.That(() => file.ReadBytes("lm_head.weight"), Throws.InstanceOf<InvalidDataException>()
            .With.Message.Contains(file.Location).And.Message.Contains("\"lm_head.weight\""));
    }

    [Test]
    public void A_file_that_shrinks_after_opening_gives_an_error_and_no_crash()
    {
        using var file = Open(RawFile.Header(RawFile.Tensor("a", "U8", "100000", 0, 100000)), 100000);
        using (var writer = new FileStream(file.Location, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            writer.SetLength(5000);
        }

        Assert.That(() => file.ReadBytes("a"), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("shorter")
            .And.Message.Contains("\"a\""));
    }

    [Test]
    public void A_missing_file_and_a_folder_are_told_apart()
    {
        Assert.That(() => SafetensorsFile.Open(folder["no.safetensors"]), Throws.InstanceOf<FileNotFoundException>()
            .With.Message.Contains(folder["no.safetensors"]));
        Assert.That(() => SafetensorsFile.Open(folder.Root), Throws.InstanceOf<InvalidDataException>()
            .With.Message.Contains("is a folder"));
    }

    private SafetensorsFile Open(string header, int dataLength)
    {
        File.WriteAllBytes(folder["test.safetensors"], RawFile.Bytes(header, dataLength));
        return SafetensorsFile.Open(folder["test.safetensors"]);
    }
}
