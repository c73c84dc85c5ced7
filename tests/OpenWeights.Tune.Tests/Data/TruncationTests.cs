using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Data;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>Rows that are too long are cut where a turn ends, and nothing is put where it was cut.</summary>
public sealed class TruncationTests
{
    private static readonly string s_chat = Rows.Chat([.. Enumerable.Range(0, 3).SelectMany(static i => new[] { Rows.Message("user", $"question {i}"), Rows.Message("assistant", $"answer {i} is so long") })]);

    [Test]
    public void A_chat_is_cut_behind_the_last_whole_turn_of_the_assistant_that_fits()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", s_chat + "\n");
        var whole = Rows.Text(Rows.Read(path).Train.Rows[0]);
        var ends = Enumerable.Range(0, 3).Select(i => whole.IndexOf($"answer {i} is so long<|im_end|>\n", StringComparison.Ordinal) + $"answer {i} is so long<|im_end|>\n".Length).ToArray();
        Assert.That(ends[2], Is.EqualTo(whole.Length));
        for (var length = 61; length < whole.Length; length++)
        {
            var set = Rows.Read(path, section: Rows.Unpacked with { MaxLength = length, OverLength = "truncate", UntrainedRows = "drop" }).Train;
            var expected = length >= ends[1] ? ends[1] : length >= ends[0] ? ends[0] : length;
            Assert.That(Rows.Text(set.Rows[0]), Is.EqualTo(whole[..expected]), $"max_length {length}");
            Assert.That((set.Report.Truncated, set.Report.TruncatedTokens, set.Report.TargetTokens), Is.EqualTo((1, (long)whole.Length - expected, (long)Rows.Trained(set.Rows[0]).Replace("|a", "a", StringComparison.Ordinal).Length)), "counted after the cut");
        }
    }

    [Test]
    public void A_text_is_cut_without_an_end()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", "{\"text\": \"abcdefghij\"}\n{\"text\": \"abc\"}\n");
        var rows = Rows.Read(path, section: Rows.Unpacked with { MaxLength = 6, OverLength = "truncate" }).Train.Rows;
        Assert.That(Rows.Text(rows[0]), Is.EqualTo("abcdef"));
        Assert.That(Rows.Text(rows[1]), Is.EqualTo("abc" + CharacterTokenizer.End));
    }

    [Test]
    public void A_row_whose_answer_is_cut_away_is_an_error_or_dropped_and_counted()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", "{\"prompt\": \"a prompt that is long\", \"completion\": \"!\"}\n{\"prompt\": \"p\", \"completion\": \"c\"}\n");
        var section = Rows.Unpacked with { MaxLength = 8, OverLength = "truncate" };
        Assert.That(() => Rows.Read(path, section: section), Throws.InstanceOf<InvalidDataException>().With.Message.Contains($"1 of 2 rows has no token to train: {path}:1"));
        var set = Rows.Read(path, section: section with { UntrainedRows = "drop" }).Train;
        Assert.That((set.Rows.Count, set.Report.Untrained), Is.EqualTo((1, 1)));
        Assert.That(set.Report.Changes(8), Has.Member("1 row dropped because nothing in it is trained"));
        var nothing = folder.Write("nothing.jsonl", "{\"prompt\": \"a prompt that is long\", \"completion\": \"!\"}\n");
        Assert.That(() => Rows.Read(nothing, section: section with { UntrainedRows = "drop" }), Throws.InstanceOf<InvalidDataException>(), "a data set with nothing to train");
    }
}
