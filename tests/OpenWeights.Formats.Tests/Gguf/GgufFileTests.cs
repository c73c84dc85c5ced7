using System.Text;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Testing;

namespace OpenWeights.Formats.Tests.Gguf;

/// <summary>GGUF files: what is written is read, what others wrote is read, and what is damaged is refused.</summary>
public sealed class GgufFileTests
{
    [Test]
    public void Every_kind_of_value_comes_back_as_it_was_written()
    {
        using var work = new TemporaryFolder();
        var metadata = new GgufMetadata("new")
        {
            { "a", (byte)200 }, { "b", (sbyte)-3 }, { "c", (ushort)60000 }, { "d", (short)-5 }, { "e", 4000000000u }, { "f", -7 }, { "g", 0.1f },
            { "h", true }, { "i", "grün \0 🦙" }, { "j", ulong.MaxValue }, { "k", long.MinValue }, { "l", Math.PI },
            { "m", new[] { "a", "", "ü" } }, { "n", new[] { 1f, float.NaN } }, { "o", new[] { false, true } }, { "p", Array.Empty<int>() },
        };
        GgufWriter.Write(work["x.gguf"], metadata, []);
        using var file = GgufFile.Open(work["x.gguf"]);
        Assert.That(file.Metadata, Is.EqualTo(metadata));
        Assert.That(file.Metadata.Select(static p => p.Value.GetType()), Is.EqualTo(metadata.Select(static p => p.Value.GetType())));
    }

    [Test]
    public void Tensors_lie_where_the_header_says_at_multiples_of_32()
    {
        using var work = new TemporaryFolder();
        var three = new GgufTensorToWrite("three", GgufType.F32, [3], static s => s.Write(new byte[] { 0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 64, 64 }));
        var matrix = new GgufTensorToWrite("matrix", GgufType.Q8_0, [2, 32], static s => s.Write([.. Enumerable.Range(0, 68).Select(static i => (byte)i)]));
        GgufWriter.Write(work["x.gguf"], new GgufMetadata("new") { { "general.name", "n" } }, [three, matrix]);
        using var file = GgufFile.Open(work["x.gguf"]);
        Assert.That(file.Tensors.Select(static t => t.ToString()), Is.EqualTo(new[] { "three F32 [3]", "matrix Q8_0 [2,32]" }));
        Assert.That(file.Tensors.Select(static t => t.FileOffset % 32), Is.All.Zero);
        Assert.That(new FileInfo(work["x.gguf"]).Length % 32, Is.Zero);
        var values = new float[3];
        file.ReadRows(file.GetTensor("three"), 0, values);
        Assert.That(values, Is.EqualTo(new[] { 1f, 2f, 3f }));
        var bytes = new byte[4];
        file.ReadBytes(file.GetTensor("matrix"), 34, bytes);
        Assert.That(bytes, Is.EqualTo(new byte[] { 34, 35, 36, 37 }));
    }

    [TestCase(float.NaN)]
    [TestCase(float.NegativeInfinity)]
    public void A_setting_that_is_no_finite_number_is_refused(float value) =>
        Assert.That(() => new GgufMetadata("x.gguf") { { "llama.rope.freq_base", value } }.Number("llama.rope.freq_base"), Throws.TypeOf<InvalidDataException>().With.Message.Contains("x.gguf: llama.rope.freq_base: a finite number is expected"));

    [Test]
    public void An_order_of_rows_takes_no_memory_however_many_heads_a_file_claims()
    {
        var before = GC.GetAllocatedBytesForCurrentThread();
        var rows = GgufForm.PairedRows(1 << 30, 1 << 20);
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(10_000));
        Assert.That(rows, Has.Count.EqualTo(int.MaxValue));
        Assert.That(GgufForm.PairedRows(2, 4).ToArray(), Is.EqualTo(new[] { 0, 2, 1, 3, 4, 6, 5, 7 }));
    }

    [Test]
    public void A_tensors_writer_is_held_to_its_size()
    {
        using var work = new TemporaryFolder();
        var tensor = new GgufTensorToWrite("t", GgufType.F32, [2], static s => s.Write(new byte[7]));
        Assert.That(() => GgufWriter.Write(work["x.gguf"], new GgufMetadata("new"), [tensor]), Throws.InvalidOperationException.With.Message.Contains("gave only 7"));
        Assert.That(work.Names, Is.Empty);
    }

    [Test]
    public void A_file_of_another_program_is_read()
    {
        using var file = GgufFile.Open(SharedFiles.Require("fixtures", "weights", "stories260K", "stories260K.gguf"));
        Assert.That(file.Metadata.Text("general.architecture"), Is.EqualTo("llama"));
        Assert.That(file.Metadata.List<string>("tokenizer.ggml.tokens"), Has.Count.EqualTo(512));
        Assert.That(file.Tensors, Has.Count.EqualTo(48));
        Assert.That(file.GetTensor("token_embd.weight").Shape, Is.EqualTo(new long[] { 512, 64 }));
    }

    [Test]
    public void A_file_cut_anywhere_or_changed_anywhere_in_its_header_is_refused_or_read_and_nothing_else()
    {
        using var work = new TemporaryFolder();
        var tensor = new GgufTensorToWrite("t.weight", GgufType.F32, [2, 2], static s => s.Write(new byte[16]));
        GgufWriter.Write(work["x.gguf"], new GgufMetadata("new") { { "general.alignment", 32u }, { "words", new[] { "one", "two" } } }, [tensor]);
        var whole = File.ReadAllBytes(work["x.gguf"]);
        for (var length = 0; length < whole.Length - 16; length++)
        {
            File.WriteAllBytes(work["cut.gguf"], whole[..length]);
            Assert.That(() => GgufFile.Open(work["cut.gguf"]).Dispose(), Throws.InstanceOf<InvalidDataException>(), $"cut to {length} bytes");
        }

        var random = new Random(11);
        for (var i = 0; i < 3000; i++)
        {
            var changed = whole.ToArray();
            changed[random.Next(whole.Length - 16)] = (byte)random.Next(256);
            File.WriteAllBytes(work["changed.gguf"], changed);
            try
            {
                GgufFile.Open(work["changed.gguf"]).Dispose();
            }
            catch (InvalidDataException error)
            {
                Assert.That(error.Message, Does.Contain("changed.gguf"));
            }
        }
    }

    [TestCase(23, "IQ4_XS")]
    [TestCase(16, "IQ2_XXS")]
    [TestCase(77, "77")]
    public void A_type_that_cannot_be_read_is_named(int type, string name)
    {
        using var work = new TemporaryFolder();
        var tensor = new GgufTensorToWrite("t.weight", GgufType.F32, [2, 2], static s => s.Write(new byte[16]));
        GgufWriter.Write(work["x.gguf"], new GgufMetadata("new"), [tensor]);
        var bytes = File.ReadAllBytes(work["x.gguf"]);
        bytes[bytes.AsSpan().IndexOf("t.weight"u8) + "t.weight".Length + 4 + 8 + 8] = (byte)type;
        File.WriteAllBytes(work["x.gguf"], bytes);
        Assert.That(() => GgufFile.Open(work["x.gguf"]), Throws.InstanceOf<InvalidDataException>().With.Message.Contains($"type {name}, which").And.Message.Contains("Q4_K"));
    }

    [Test]
    public void Something_else_is_told_from_a_GGUF_file()
    {
        using var work = new TemporaryFolder();
        Assert.That(GgufFile.IsGguf(work.Write("x.txt", "GGU")), Is.False);
        Assert.That(GgufFile.IsGguf(work["missing"]), Is.False);
        File.WriteAllBytes(work["big"], [.. "GGUF"u8, 0, 0, 0, 3, .. Encoding.ASCII.GetBytes(new string('x', 40))]);
        Assert.That(() => GgufFile.Open(work["big"]), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("big-endian"));
    }
}
