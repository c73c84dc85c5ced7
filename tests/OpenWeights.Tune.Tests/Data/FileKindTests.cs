using System.Buffers.Binary;
using System.Text;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Formats;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>Files that are compressed, and files that are not what they should be.</summary>
public sealed class FileKindTests
{
    private const string Lines = "{\"text\": \"first\"}\n{\"text\": \"second é\"}\n";

    [Test]
    [Platform(Exclude = "Win", Reason = "links need a right there")]
    public void A_folder_with_a_link_to_itself_gives_each_row_once_and_a_link_to_nothing_is_told()
    {
        using var folder = new TemporaryFolder();
        _ = folder.Write("data/rows.jsonl", Lines);
        _ = Directory.CreateSymbolicLink(folder.At("data", "self"), ".");
        Assert.That(Read(folder.At("data")), Is.EqualTo(new[] { "first", "second é" }));
        Assert.That(Read(folder.At("data", "**", "*.jsonl")), Is.EqualTo(new[] { "first", "second é" }));
        _ = File.CreateSymbolicLink(folder.At("link.jsonl"), "gone.jsonl");
        Assert.That(() => Read(folder.At("link.jsonl")), Throws.InstanceOf<InvalidDataException>().With.Message.Contains($"this link leads to {folder.At("gone.jsonl")}, which is not there"));
    }

    [Test]
    public void Zstandard_gives_the_rows_of_the_file_in_it_over_blocks_and_frames()
    {
        using var folder = new TemporaryFolder();
        var bytes = Encoding.UTF8.GetBytes(Lines);
        var path = folder.At("rows.jsonl.zst");
        File.WriteAllBytes(path, [.. Frame(bytes[..7], bytes[7..25]), .. Frame(bytes[25..])]);
        Assert.That(Read(path), Is.EqualTo(new[] { "first", "second é" }));
        File.WriteAllBytes(path, Frame(bytes)[..^5]);
        Assert.That(() => Read(path), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("rows.jsonl.zst"));
        File.WriteAllText(path, Lines);
        Assert.That(Read(path), Is.EqualTo(new[] { "first", "second é" }), "what a file is, its bytes tell, not its name");
    }

    [Test]
    public void Zstandard_of_any_level_and_length_comes_back_and_damage_is_told()
    {
        using var folder = new TemporaryFolder();
        var path = folder.At("rows.jsonl.zst");
        var lines = string.Concat(Enumerable.Range(0, 20_000).Select(static i => $"{{\"text\": \"row {i} of {i * 7919 % 1000} {new string((char)('a' + (i % 26)), i % 200)}\"}}\n"));
        foreach (var level in new[] { 1, 19 })
        {
            using var compressor = new ZstdSharp.Compressor(level);
            compressor.SetParameter(ZstdSharp.Unsafe.ZSTD_cParameter.ZSTD_c_checksumFlag, 1);
            var compressed = compressor.Wrap(Encoding.UTF8.GetBytes(lines)).ToArray();
            File.WriteAllBytes(path, compressed);
            Assert.That(string.Concat(Read(path).Select(static t => $"{{\"text\": \"{t}\"}}\n")), Is.EqualTo(lines), $"level {level}");
            compressed[compressed.Length / 2] ^= 0xff;
            File.WriteAllBytes(path, compressed);
            Assert.That(() => Read(path), Throws.InstanceOf<InvalidDataException>().With.Message.StartsWith($"{path}: the compressed file is damaged"));
            File.WriteAllBytes(path, compressed[..10]);
            Assert.That(() => Read(path), Throws.InstanceOf<InvalidDataException>().With.Message.StartsWith($"{path}: the compressed file is damaged"));
        }
    }

    [Test]
    public void A_text_is_one_row_or_a_row_for_each_line()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("text.txt", "one\ntwo\n\nthree");
        Assert.That(DataFile.Read(path).Single().Text("text"), Is.EqualTo("one\ntwo\n\nthree"));
        Assert.That(DataFile.Read(new DataSource { Path = path, TextBy = "line" }).Select(static r => r.Text("text")), Is.EqualTo(new[] { "one", "two", "three" }));
    }

    [TestCase("rows.csv", "prompt,completion\na,", "\n", ":2: \"completion\" is not valid UTF-8")]
    [TestCase("rows.txt", "text ", "", ": this text is not valid UTF-8")]
    [TestCase("rows.jsonl", "{\"text\": \"", "\"}\n", ":1: this line is not valid UTF-8")]
    public void Bytes_that_are_no_UTF8_are_told(string name, string before, string behind, string message)
    {
        using var folder = new TemporaryFolder();
        var path = folder.At(name);
        File.WriteAllBytes(path, [.. Encoding.UTF8.GetBytes(before), 0xc3, 0x28, .. Encoding.UTF8.GetBytes(behind)]);
        Assert.That(() => Rows.Read(path), Throws.InstanceOf<InvalidDataException>().With.Message.StartsWith(path + message));
    }

    [Test]
    public void A_million_columns_are_refused_in_a_sentence()
    {
        using var folder = new TemporaryFolder();
        var names = Enumerable.Range(0, 1_000_000).Select(static i => $"c{i}").ToList();
        var table = folder.Write("rows.csv", string.Join(',', names) + "\n");
        Assert.That(() => Rows.Read(table), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("1000000 columns").And.Message.Length.LessThan(400));
        var row = folder.Write("rows.jsonl", $"{{{string.Join(',', names.Select(static n => $"\"{n}\":1"))}}}\n");
        Assert.That(() => Rows.Read(row), Throws.InstanceOf<InvalidDataException>().With.Message.StartsWith(row + ":1: ").And.Message.Length.LessThan(1000));
    }

    [Test]
    public void Every_data_set_among_the_fixtures_is_read_or_refused_in_a_sentence()
    {
        var read = 0;
        foreach (var path in Directory.EnumerateFiles(SharedFiles.Require("fixtures", "datasets"), "*", SearchOption.AllDirectories))
        {
            try
            {
                var rows = Rows.Read(path, section: Rows.Unpacked with { MaxLength = 1 << 22 }).Train.Rows;
                Assert.That(rows.All(static r => r.CountTargets() > 0), path);
                read++;
            }
            catch (InvalidDataException e)
            {
                Assert.That(e.Message, Does.StartWith(path));
            }
        }

        // Self-instruct keeps its answers within a list, which the setting fields leads to; ChatML writes no tool calls.
        Assert.That(read, Is.GreaterThanOrEqualTo(13));
        var path2 = SharedFiles.Require("fixtures", "datasets", "self-instruct-seed-tasks.jsonl");
        var source = new DataSource { Path = path2, Fields = new Dictionary<string, string> { ["instruction"] = "instruction", ["input"] = "instances.0.input", ["output"] = "instances.0.output" } };
        Assert.That(Rows.Read(path2, section: new DataSection { Train = [source], MaxLength = 1 << 22, Packing = false }).Train.Rows, Has.Count.EqualTo(175));
    }

    // A frame of raw blocks by hand (RFC 8878): one segment, the content's size in one byte, of each block its size and whether it is the last.
    private static byte[] Frame(params byte[][] blocks)
    {
        var frame = new List<byte> { 0x28, 0xb5, 0x2f, 0xfd, 0x20, (byte)blocks.Sum(static b => b.Length) };
        for (var i = 0; i < blocks.Length; i++)
        {
            var header = new byte[4];
            BinaryPrimitives.WriteInt32LittleEndian(header, (blocks[i].Length << 3) | (i == blocks.Length - 1 ? 1 : 0));
            frame.AddRange([.. header[..3], .. blocks[i]]);
        }

        return [.. frame];
    }

    private static string[] Read(string path) => [.. DataFile.Read(path).Select(static r => r.Text("text"))];
}
