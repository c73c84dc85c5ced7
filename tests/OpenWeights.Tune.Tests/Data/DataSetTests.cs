using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>Rows of files: what is wrong is told with file and line, and nothing is lost in silence.</summary>
public sealed class DataSetTests
{
    [TestCase("{\"input_ids\": [1, 2}", ":2: this line is not valid JSON")]
    [TestCase("[1, 2]", ":2: a row must be an object")]
    [TestCase("{\"input_ids\": [1, 2], \"labels\": [1]}", ":2: \"labels\" has 1 entries, but \"input_ids\" has 2")]
    [TestCase("{\"input_ids\": [1, \"x\"]}", ":2: \"input_ids\" contains \"x\" at index 1")]
    [TestCase("{\"input_ids\": [1, 2.5]}", ":2: \"input_ids\" contains 2.5 at index 1")]
    [TestCase("{\"input_ids\": [1, 999]}", ":2: token id 999 at index 1 is not one of the model's 96 tokens")]
    [TestCase("{\"labels\": [1, 2]}", ":2: \"input_ids\" is missing")]
    public void A_bad_row_is_told_with_its_file_and_line(string line, string message)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", "{\"input_ids\": [1, 2, 3]}\n" + line + "\n");
        Assert.That(() => Read(path, new DataSection()), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(path + message));
    }

    [Test]
    public void Rows_that_are_too_long_are_an_error_dropped_or_cut_as_the_config_says_and_counted()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", "{\"input_ids\": [1, 2, 3]}\n{\"input_ids\": [1, 2, 3, 4, 5, 6]}\n");
        var section = new DataSection { MaxLength = 4, Packing = false };
        Assert.That(() => Read(path, section), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("1 of 2 rows").And.Message.Contains($"{path}:2 (6)"));
        var dropped = Read(path, section with { OverLength = "drop" });
        Assert.That((dropped.Rows.Count, dropped.Report.Dropped), Is.EqualTo((1, 1)));
        var cut = Read(path, section with { OverLength = "truncate" });
        Assert.That((cut.Rows[1].Ids, cut.Report.Truncated, cut.Report.TruncatedTokens), Is.EqualTo((new[] { 1, 2, 3, 4 }, 1, 2L)));
    }

    [Test]
    public void A_row_with_nothing_to_train_is_told()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", "{\"input_ids\": [1, 2, 3]}\n{\"input_ids\": [1, 2], \"labels\": [1, -100]}\n");
        Assert.That(() => Read(path, new DataSection()), Throws.InstanceOf<InvalidDataException>().With.Message.Contains($"{path}:2"));
    }

    [Test]
    public void An_unknown_format_is_told_with_the_keys_that_are_there()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", "{\"question\": \"?\", \"reply\": \"!\"}\n");
        Assert.That(() => Read(path, new DataSection()), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("question, reply"));
    }

    [Test]
    public void A_JSON_array_is_read_like_lines()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.json", "\n [{\"input_ids\": [1, 2, 3]},\n{\"input_ids\": [4, 5]}]");
        Assert.That(Read(path, new DataSection { Packing = false }).Rows.Select(static r => r.Ids), Is.EqualTo(new[] { new[] { 1, 2, 3 }, [4, 5] }));
    }

    [Test]
    public void Invalid_UTF8_is_told()
    {
        using var folder = new TemporaryFolder();
        var path = folder.At("rows.jsonl");
        File.WriteAllBytes(path, [.. "{\"text\": \""u8, 0xff, 0xfe, .. "\"}\n"u8]);
        Assert.That(() => Read(path, new DataSection()), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("UTF-8"));
    }

    [Test]
    public void Each_epoch_has_every_row_once_in_an_order_of_its_own()
    {
        var first = RowOrder.Of(100, shuffle: true, seed: 1, epoch: 0);
        Assert.That(first.Order(), Is.EqualTo(Enumerable.Range(0, 100)));
        Assert.That(first, Is.Not.EqualTo(RowOrder.Of(100, true, 1, 1)));
        Assert.That(first, Is.Not.EqualTo(RowOrder.Of(100, true, 2, 0)));

        // The order is part of what a run is: it may not change from one version to the next.
        Assert.That(RowOrder.Of(8, shuffle: true, seed: 42, epoch: 3), Is.EqualTo(new[] { 1, 7, 6, 3, 2, 0, 5, 4 }));
    }

    private static DataSet Read(string path, DataSection section) =>
        RunData.Read(section with { Train = [new DataSource { Path = path }] }, new RowTokenizer(Path.GetDirectoryName(path)!, "assistant"), TinyModel.Vocabulary, seed: 0).Train;
}
