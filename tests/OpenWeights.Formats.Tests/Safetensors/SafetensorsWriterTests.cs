using System.Text;
using FsCheck;
using FsCheck.Fluent;
using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Formats.Tests.Support;
using OpenWeights.Testing;

namespace OpenWeights.Formats.Tests.Safetensors;

public sealed class SafetensorsWriterTests
{
    private TemporaryFolder folder = null!;

    [SetUp]
    public void CreateFolder() => folder = new TemporaryFolder();

    [TearDown]
    public void RemoveFolder() => folder.Dispose();

    [Test]
    public void A_file_that_the_reference_wrote_is_written_again_byte_for_byte()
    {
        string[] paths = [.. SharedFiles.FindFiles("*.safetensors", "goldens", "reference"), .. SharedFiles.FindFiles("*.safetensors", "fixtures", "weights")];
        Assert.That(paths, Is.Not.Empty);
        foreach (var path in paths)
        {
            using (var source = SafetensorsFile.Open(path))
            {
                // Backwards, so that the order of the file is the writer's own doing.
                var tensors = source.Tensors.Reverse().Select(tensor => TensorToWrite.FromSource(source, tensor.Name)).ToList();
                SafetensorsWriter.Write(folder["again.safetensors"], tensors, source.Metadata);
            }

            Assert.That(File.ReadAllBytes(folder["again.safetensors"]).AsSpan().SequenceEqual(File.ReadAllBytes(path)), Is.True, path);
        }

        TestContext.Out.WriteLine($"{paths.Length} files");
    }

    [Test]
    public void Tensors_are_ordered_by_type_from_the_widest_and_then_by_the_bytes_of_their_names()
    {
        // U+FFFD comes before U+1F600 in UTF-8, and behind it in UTF-16; BF16 is listed behind F16 in the reference,
        // so it is written before.
        string[] names = ["b", "a", "\ufffd", "\U0001F600", "B"];
        List<TensorToWrite> tensors = [.. names.Select(name => Bytes(name, DType.U8, [1]))];
        tensors.AddRange([Bytes("f16", DType.F16, [1]), Bytes("bf16", DType.BF16, [1]), Bytes("f32", DType.F32, []),
            Bytes("i64", DType.I64, [1])]);
        SafetensorsWriter.Write(folder["order.safetensors"], tensors);

        using var file = SafetensorsFile.Open(folder["order.safetensors"]);
        Assert.That(file.Tensors.Select(tensor => tensor.Name),
            Is.EqualTo(new[] { "i64", "f32", "bf16", "f16", "B", "a", "b", "\ufffd", "\U0001F600" }));
    }

    [Test]
    public void The_header_is_spelled_as_the_reference_spells_it()
    {
        var metadata = new Dictionary<string, string> { ["z"] = "quote \" slash \\ / tab \t bell \u0007 é 😀", ["a"] = "\u007f" };
        SafetensorsWriter.Write(folder["spelling.safetensors"], [Bytes("w", DType.U8, [2, 1])], metadata);

        var bytes = File.ReadAllBytes(folder["spelling.safetensors"]);
        var expected = """{"__metadata__":{"z":"quote \" slash \\ / tab \t bell \u0007 é 😀","a":"DEL"},"w":{"dtype":"U8","shape":[2,1],"data_offsets":[0,2]}}"""
            .Replace("DEL", "\u007f", StringComparison.Ordinal);
        var length = BitConverter.ToInt32(bytes);
        Assert.That(Encoding.UTF8.GetString(bytes, 8, length).TrimEnd(' '), Is.EqualTo(expected));
        Assert.That(length % 8, Is.Zero);
        Assert.That(length - Encoding.UTF8.GetByteCount(expected), Is.InRange(0, 7));
    }

    [Test]
    public void What_is_written_is_read_again_for_any_tensors_and_metadata()
    {
        var property = Prop.ForAll(Files().ToArbitrary(), written =>
        {
            var (tensors, metadata) = written;
            SafetensorsWriter.Write(folder["any.safetensors"],
                [.. tensors.Select(tensor => new TensorToWrite(tensor.Name, tensor.DType, tensor.Shape, stream => stream.Write(tensor.Bytes)))], metadata);
            using var file = SafetensorsFile.Open(folder["any.safetensors"]);
            return file.Tensors.Count == tensors.Length
                && file.Metadata!.SequenceEqual(metadata)
                && tensors.All(tensor => file.GetTensor(tensor.Name).DType == tensor.DType
                    && file.GetTensor(tensor.Name).Shape.SequenceEqual(tensor.Shape)
                    && file.ReadBytes(tensor.Name).SequenceEqual(tensor.Bytes));
        });

        Check.One(Config.QuickThrowOnFailure.WithMaxTest(150), property);
    }

    [Test]
    public void A_writer_that_gives_too_few_or_too_many_bytes_is_caught_and_the_old_file_stays()
    {
        File.WriteAllText(folder["model.safetensors"], "old");
        var few = new TensorToWrite("few", DType.F32, [2], stream => stream.Write(new byte[7]));
        var many = new TensorToWrite("many", DType.F32, [2], stream =>
        {
            stream.Write(new byte[8]);
            stream.WriteByte(0);
        });

        Assert.That(() => SafetensorsWriter.Write(folder["model.safetensors"], [few]),
            Throws.InvalidOperationException.With.Message.Contains("few F32 [2] has 8 bytes, but its writer gave only 7"));
        Assert.That(() => SafetensorsWriter.Write(folder["model.safetensors"], [many]),
            Throws.InvalidOperationException.With.Message.Contains("many F32 [2] has 8 bytes, but its writer gave more"));
        Assert.That(File.ReadAllText(folder["model.safetensors"]), Is.EqualTo("old"));
        Assert.That(folder.Names, Is.EqualTo(new[] { "model.safetensors" }));
    }

    [Test]
    public void A_disk_without_the_room_is_reported_before_anything_is_written()
    {
        var asked = false;
        var huge = new TensorToWrite("huge", DType.U8, [1L << 60], _ => asked = true);

        Assert.That(() => SafetensorsWriter.Write(folder["huge.safetensors"], [huge]), Throws.InstanceOf<IOException>()
            .With.Message.Contains(folder["huge.safetensors"]).And.Message.Contains("needs 1073741824.0 GiB").And.Message.Contains("free"));
        Assert.That(asked, Is.False);
        Assert.That(folder.Names, Is.Empty);
    }

    [Test]
    public void What_the_format_cannot_hold_is_refused_before_writing()
    {
        Assert.That(() => SafetensorsWriter.Write(folder["f"], [Bytes("a", DType.U8, [1]), Bytes("a", DType.I8, [1])]),
            Throws.ArgumentException.With.Message.Contains("more than once: a"));
        Assert.That(() => Bytes("__metadata__", DType.U8, [1]), Throws.ArgumentException);
        Assert.That(() => SafetensorsWriter.Write(folder["f"], [Bytes("\ud800", DType.U8, [1])]), Throws.ArgumentException
            .With.Message.Contains("surrogate"));
        Assert.That(() => Bytes("a", DType.U8, [-1]), Throws.ArgumentException);
        Assert.That(() => Bytes("a", DType.F4, [3]), Throws.ArgumentException.With.Message.Contains("whole bytes"));
        Assert.That(() => SafetensorsWriter.Write(folder["f"], [Bytes(new string('x', 100_000_001), DType.U8, [1])]),
            Throws.ArgumentException.With.Message.Contains("100000000"));
        Assert.That(folder.Names, Is.Empty);
    }

    [Test]
    public void Bytes_are_asked_for_only_when_their_turn_comes_and_a_tensor_is_never_held_whole()
    {
        const int length = 64 << 20;
        using (var stream = File.Create(folder["large.safetensors"]))
        {
            stream.Write(RawFile.Bytes(RawFile.Header(RawFile.Tensor("large", "U8", $"{length}", 0, length))));
            stream.SetLength(stream.Length + length);
        }

        using var source = SafetensorsFile.Open(folder["large.safetensors"]);
        var before = GC.GetAllocatedBytesForCurrentThread();
        SafetensorsWriter.Write(folder["copy.safetensors"], [TensorToWrite.FromSource(source, "large")]);

        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(16 << 20));
        Assert.That(new FileInfo(folder["copy.safetensors"]).Length, Is.GreaterThan(length));
    }

    private static TensorToWrite Bytes(string name, DType dtype, long[] shape) =>
        new(name, dtype, shape, stream =>
            stream.Write(new byte[shape.Aggregate(1L, (product, dimension) => product * dimension) * dtype.BitSize() / 8]));

    private static Gen<((string Name, DType DType, long[] Shape, byte[] Bytes)[] Tensors, Dictionary<string, string> Metadata)> Files()
    {
        var names = ArbMap.Default.GeneratorFor<NonNull<string>>().Select(name => name.Get).Where(IsUnicode);
        var tensor =
            from name in names
            where name != "__metadata__"
            from dtype in Gen.Elements(Enum.GetValues<DType>())
            from shape in Gen.Choose(0, 5).Select(dimension => (long)dimension).ArrayOf().Where(shape => shape.Length <= 4)
            let bits = shape.Aggregate(1L, (product, dimension) => product * dimension) * dtype.BitSize()
            where bits % 8 == 0
            from bytes in Gen.Choose(0, 255).Select(value => (byte)value).ArrayOf((int)(bits / 8))
            select (Name: name, DType: dtype, Shape: shape, Bytes: bytes);
        return
            from tensors in tensor.ArrayOf()
            from keys in names.ArrayOf()
            from value in names
            select (tensors.DistinctBy(one => one.Name).ToArray(), keys.Distinct().ToDictionary(key => key, key => key + value));
    }

    private static bool IsUnicode(string text) => text.EnumerateRunes().All(rune => rune != Rune.ReplacementChar);
}
