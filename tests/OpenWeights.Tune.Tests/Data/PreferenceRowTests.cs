using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>What people preferred, in the shapes that data sets have it in.</summary>
internal sealed class PreferenceRowTests
{
    private const string Before = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n";

    [TestCase("""{"messages": [{"role": "user", "content": "q"}], "chosen": "good", "rejected": "bad"}""")]
    [TestCase("""{"messages": [{"role": "user", "content": "q"}], "chosen": {"role": "assistant", "content": "good"}, "rejected": {"role": "assistant", "content": "bad"}}""")]
    [TestCase("""{"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "good"}, "rejected": {"from": "gpt", "value": "bad"}}""")]
    [TestCase("""{"prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": "good"}], "rejected": [{"role": "assistant", "content": "bad"}]}""")]
    [TestCase("""{"prompt": "q", "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}]}""")]
    [TestCase("""{"chosen_messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}], "rejected_messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}]}""")]
    [TestCase("""{"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"}""")]
    public void Two_answers_are_two_rows_of_which_the_answer_alone_is_trained(string json)
    {
        using var folder = new TemporaryFolder();
        var rows = Rows.Of(folder, json);
        Assert.That(rows.Select(static r => (Rows.Text(r), Rows.Trained(r), r.Role)), Is.EqualTo(new[]
        {
            (Before + "good<|im_end|>\n", "good<|im_end|>", RowRole.Chosen),
            (Before + "bad<|im_end|>\n", "bad<|im_end|>", RowRole.Rejected),
        }));
    }

    [Test]
    public void A_prompt_that_is_a_text_stays_without_the_template()
    {
        using var folder = new TemporaryFolder();
        var rows = Rows.Of(folder, """{"prompt": "q: ", "chosen": "good", "rejected": "bad"}""");
        Assert.That(rows.Select(static r => (Rows.Text(r), Rows.Trained(r))), Is.EqualTo(new[] { ("q: good\u0003", "good\u0003"), ("q: bad\u0003", "bad\u0003") }));
    }

    [TestCase("true", RowRole.Desired)]
    [TestCase("false", RowRole.Undesired)]
    [TestCase("1", RowRole.Desired)]
    [TestCase("0", RowRole.Undesired)]
    public void One_answer_with_a_label_is_a_row(string label, RowRole role)
    {
        using var folder = new TemporaryFolder();
        var rows = Rows.Of(
            folder,
            $$"""{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": {{label}}}""",
            $$"""{"prompt": "q: ", "completion": "a", "label": {{label}}}""");
        Assert.That(rows.Select(static r => r.Role), Is.All.EqualTo(role));
        Assert.That(rows.Select(static r => Rows.Trained(r)), Is.EqualTo(new[] { "a<|im_end|>", "a\u0003" }));
    }

    [Test]
    public void A_label_that_is_none_and_half_a_pair_are_told()
    {
        using var folder = new TemporaryFolder();
        Assert.That(() => Rows.Of(folder, """{"prompt": "q", "completion": "a", "label": "perhaps"}"""), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(":1: \"label\" is 'perhaps'"));
        Assert.That(() => Rows.Of(folder, """{"prompt": "q", "chosen": "a", "rejected": "b"}""", """{"prompt": "q", "chosen": "a"}"""), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(":2: "));
    }

    [Test]
    public void Pairs_stay_together_where_data_sets_are_mixed_or_a_part_of_them_is_taken()
    {
        using var folder = new TemporaryFolder();
        string Write(string name, int count) => folder.Write(name, string.Concat(Enumerable.Range(0, count).Select(i => $"{{\"prompt\": \"{name[0]}\", \"chosen\": \"{i}\", \"rejected\": \"no {i}\"}}\n")));
        var section = new DataSection { Train = [new DataSource { Path = Write("a.jsonl", 9), Weight = 0.5 }, new DataSource { Path = Write("b.jsonl", 7), Weight = 1.5 }] };
        var rows = Rows.Read("", section: section).Train.Rows;
        Assert.That(rows, Has.Count.EqualTo(2 * (4 + 7 + 4)));
        for (var i = 0; i < rows.Count; i += 2)
        {
            Assert.That((rows[i].Role, rows[i + 1].Role), Is.EqualTo((RowRole.Chosen, RowRole.Rejected)));
            Assert.That(Rows.Trained(rows[i + 1]), Is.EqualTo("no " + Rows.Trained(rows[i])));
        }
    }
}
