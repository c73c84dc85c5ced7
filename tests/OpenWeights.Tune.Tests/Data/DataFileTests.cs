using System.IO.Compression;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Formats;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>The kinds of files that people have give the same rows, and the sets that a run makes of them.</summary>
public sealed class DataFileTests
{
    [Test]
    public void A_gzip_that_is_cut_off_anywhere_is_refused_even_behind_a_line()
    {
        using var folder = new TemporaryFolder();
        var text = string.Concat(Enumerable.Range(0, 400).Select(static i => $"{{\"text\": \"row {i} {i * 7919 % 1000}\"}}\n"));
        var packed = new MemoryStream();
        using (var gzip = new GZipStream(packed, CompressionLevel.Fastest, leaveOpen: true))
        {
            // Flushed in the middle, so that a cut there leaves whole lines.
            gzip.Write(System.Text.Encoding.UTF8.GetBytes(text));
            gzip.Flush();
            gzip.Write(System.Text.Encoding.UTF8.GetBytes(text));
        }

        var bytes = packed.ToArray();
        var path = folder.At("rows.jsonl.gz");
        File.WriteAllBytes(path, bytes);
        Assert.That(DataFile.Read(path).Count(), Is.EqualTo(800));
        for (var length = 20; length < bytes.Length; length += 61)
        {
            File.WriteAllBytes(path, bytes[..length]);
            Assert.That(() => DataFile.Read(path).Count(), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("rows.jsonl.gz"), $"{length} of {bytes.Length} bytes");
        }

        File.WriteAllBytes(path, bytes[..^1]);
        Assert.That(() => DataFile.Read(path).Count(), Throws.InstanceOf<InvalidDataException>());
    }

    [Test]
    public void CSV_and_gzip_and_a_JSON_array_give_the_rows_of_JSON_lines()
    {
        using var folder = new TemporaryFolder();
        var lines = "{\"prompt\": \"a, \\\"b\\\"\\nc\", \"completion\": \"é\"}\n{\"prompt\": \"d\", \"completion\": \"e\"}\n";
        string[] files =
        [
            folder.Write("rows.jsonl", lines),
            folder.Write("rows.json", $"[{lines.TrimEnd().Replace("\n", ",", StringComparison.Ordinal)}]"),
            folder.Write("rows.csv", "prompt,completion\r\n\"a, \"\"b\"\"\nc\",é\r\nd,e\r\n"),
            folder.Write("rows.tsv", "prompt\tcompletion\n\"a, \"\"b\"\"\nc\"\té\nd\te\n"),
            folder.At("packed.jsonl.gz"),
        ];
        using (var gzip = new GZipStream(File.Create(files[^1]), CompressionLevel.Fastest))
        {
            gzip.Write(System.Text.Encoding.UTF8.GetBytes(lines));
        }

        foreach (var file in files)
        {
            Assert.That(DataFile.Read(file).Select(static r => (r.Text("prompt"), r.Text("completion"))), Is.EqualTo(new[] { ("a, \"b\"\nc", "é"), ("d", "e") }), file);
        }

        Assert.That(DataFile.Read(folder.At("rows.*")).Count(), Is.EqualTo(8), "a pattern");
        Assert.That(DataFile.Read(folder.Root).Count(), Is.EqualTo(10), "a folder");
    }

    [Test]
    public void Bad_rows_are_skipped_and_counted_where_the_config_says_so()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", "{\"input_ids\": [1, 2, 3]}\nnot JSON\n{\"input_ids\": [1, \"x\"]}\n{\"input_ids\": [4, 5]}\n");
        var set = Read(folder, new DataSection { Train = [new DataSource { Path = path }], BadRows = "skip", Packing = false }).Train;
        Assert.That((set.Rows.Count, set.Report.BadRows), Is.EqualTo((2, 2L)));
        Assert.That(set.Report.BadExamples[0], Does.StartWith(path + ":2: "));
        Assert.That(set.Rows[1].Source, Is.EqualTo(path + ":4"));
    }

    [Test]
    public void A_split_keeps_rows_that_are_the_same_on_one_side_and_loses_none()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", string.Concat(Enumerable.Range(0, 200).Select(static i => $"{{\"input_ids\": [1, {i % 60}, 3]}}\n")));
        var section = new DataSection { Train = [new DataSource { Path = path }], EvalFraction = 0.2, Packing = false };
        var data = Read(folder, section);
        var (train, eval) = (data.Train.Rows.Select(static r => r.Ids[1]).ToList(), data.Eval!.Rows.Select(static r => r.Ids[1]).ToList());
        Assert.That(train.Intersect(eval), Is.Empty);
        Assert.That(train.Concat(eval).Order(), Is.EqualTo(Enumerable.Range(0, 200).Select(static i => i % 60).Order()));
        Assert.That(eval, Has.Count.InRange(40, 44));
        Assert.That(data.Train.Report.Duplicates, Is.EqualTo(140));
        Assert.That(Read(folder, section).Eval!.Rows.Select(static r => r.Source), Is.EqualTo(data.Eval.Rows.Select(static r => r.Source)));
    }

    [Test]
    public void Weights_and_repeats_multiply_rows()
    {
        using var folder = new TemporaryFolder();
        string Write(string name, int id) => folder.Write(name, string.Concat(Enumerable.Range(0, 10).Select(i => $"{{\"input_ids\": [{id}, {i}]}}\n")));
        var data = Read(folder, new DataSection
        {
            Train = [new DataSource { Path = Write("a", 1), Weight = 1.5, Repeat = 2 }, new DataSource { Path = Write("b", 2), Weight = 0.5 }, new DataSource { Path = Write("c", 3), Limit = 4 }],
            Packing = false,
        });
        Assert.That(data.Train.Rows.CountBy(static r => r.Ids[0]).ToDictionary(), Is.EqualTo(new Dictionary<int, int> { [1] = 30, [2] = 5, [3] = 4 }));
    }

    [Test]
    public void A_cache_gives_the_same_rows_and_one_that_is_cut_off_is_made_anew()
    {
        using var folder = new TemporaryFolder();
        var section = new DataSection { Train = [new DataSource { Path = TinyModel.WriteRows(folder, 50) }], Packing = false, Cache = "on", CacheDir = folder.At("cache") };
        var first = Read(folder, section).Train;
        var file = Directory.GetFiles(folder.At("cache")).Single();
        void Check(string how)
        {
            var again = Read(folder, section).Train;
            Assert.That(again.Report.Cached.Single(), Does.StartWith(how));
            Assert.That(again.Rows.Select(static r => r.Labels), Is.EqualTo(first.Rows.Select(static r => r.Labels)));
            Assert.That(again.Rows.Select(static r => r.Ids), Is.EqualTo(first.Rows.Select(static r => r.Ids)));
        }

        Check("from");
        File.WriteAllBytes(file, File.ReadAllBytes(file)[..^9]);
        Check("kept");
        File.AppendAllText(folder.At("rows.jsonl"), "{\"input_ids\": [1, 2]}\n");
        Assert.That(Read(folder, section).Train.Rows, Has.Count.EqualTo(51), "other data, another cache");
    }

    [Test]
    public void A_cache_file_that_is_cut_off_anywhere_is_not_read()
    {
        using var folder = new TemporaryFolder();
        var section = new DataSection { Train = [new DataSource { Path = TinyModel.WriteRows(folder, 5000) }], Packing = false, Cache = "on", CacheDir = folder.At("cache") };
        var rows = Read(folder, section).Train.Rows;
        Assert.That(Directory.GetFiles(folder.At("cache")).Select(static f => Path.GetExtension(f)), Is.EqualTo(new[] { ".rows" }), "nothing is left beside it");
        var bytes = File.ReadAllBytes(Directory.GetFiles(folder.At("cache")).Single());
        var random = new Random(6);
        foreach (var length in Enumerable.Range(0, 60).Select(i => i < 20 ? bytes.Length - 1 - (i * 7) : random.Next(bytes.Length)))
        {
            using var part = File.Create(folder.At("part"));
            part.Write(bytes, 0, length);
            part.Flush();
            Assert.That(TokenStore.Open(part), Is.Null, $"{length} of {bytes.Length} bytes");
        }

        Assert.That(rows.Select(static r => r.Ids), Is.EqualTo(DataFile.Read(folder.At("rows.jsonl")).Select(static r => r.Ints("input_ids"))), "more than one block of the index");
    }

    [Test]
    public void Splitting_a_text_trains_every_token_but_the_first_once()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", $"{{\"input_ids\": [{string.Join(", ", Enumerable.Range(0, 90))}]}}\n");
        var rows = Read(folder, new DataSection { Train = [new DataSource { Path = path }], OverLength = "split", MaxLength = 16, Packing = false }).Train.Rows;
        Assert.That(rows.All(static r => r.Ids.Length <= 16));
        Assert.That(rows.SelectMany(static r => r.Ids.Skip(1)), Is.EqualTo(Enumerable.Range(1, 89)));
    }

    [Test]
    public void Grouping_by_length_moves_no_row_out_of_the_epoch_and_brings_like_lengths_together()
    {
        var random = new Random(4);
        var lengths = Enumerable.Range(0, 5000).Select(_ => random.Next(1, 1000)).ToArray();
        var order = RowOrder.Of(lengths.Length, shuffle: true, seed: 1, epoch: 2);
        var before = order.ToArray();
        RowOrder.GroupByLength(order, i => lengths[i], seed: 1, epoch: 2);
        Assert.That(order.Order(), Is.EqualTo(Enumerable.Range(0, lengths.Length)));
        long Padded(int[] rows) => rows.Chunk(8).Sum(b => (long)b.Length * b.Max(i => lengths[i]));
        Assert.That(Padded(order), Is.LessThan(1.05 * lengths.Sum()));
        Assert.That(Padded(before), Is.GreaterThan(1.5 * lengths.Sum()));
    }

    private static RunData Read(TemporaryFolder folder, DataSection section) => RunData.Read(section, new RowTokenizer(folder.Root, "assistant"), TinyModel.Vocabulary, seed: 5);
}
