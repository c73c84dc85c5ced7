using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>Tables of prompts and completions: what separates cells is recognised, and what separates prompt from completion is said.</summary>
public sealed class TableJoinTests
{
    [TestCase("prompt,completion\nWhat is 2+2?,4\n")]
    [TestCase("prompt;completion\nWhat is 2+2?;4\n")]
    [TestCase("prompt\tcompletion\nWhat is 2+2?\t4\n")]
    [TestCase("prompt|completion\nWhat is 2+2?|4\n")]
    [TestCase("\"prompt\";\"completion\"\n\"What is 2+2?\";\"4\"\n")]
    [TestCase("prompt;completion;note, of more, than one, word\nWhat is 2+2?;4;x\n")]
    public void The_delimiter_of_a_csv_file_is_recognised(string table)
    {
        using var folder = new TemporaryFolder();
        var rows = Rows.Read(folder.Write("rows.csv", table), template: null).Train.Rows;
        Assert.That(Rows.Text(rows[0]), Is.EqualTo("What is 2+2?4" + CharacterTokenizer.End));
    }

    [Test]
    public void A_delimiter_that_is_given_counts_and_one_of_two_characters_is_refused()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.csv", "prompt#completion\na#b\n");
        Assert.That(Rows.Text(Read(path, new DataSource { Path = path, Delimiter = "#" }).Train.Rows[0]), Does.StartWith("ab"));
        var yaml = folder.Write("train.yaml", "output_dir: x\nmodel: { path: m }\ndata: { train: { path: rows.csv, delimiter: \"##\" } }\n");
        Assert.That(() => RunConfigFile.Read(yaml, []), Throws.InstanceOf<ConfigException>().With.Message.Contains($"{yaml}:3:").And.Message.Contains("data.train.0.delimiter"));
    }

    [Test]
    public void Prompt_and_completion_that_run_together_are_warned_of_and_a_separator_ends_it()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.csv", "prompt,completion\nWhat is 2+2?,4\n\"Say \",yes\n");
        var without = Rows.Read(path, template: null);
        Assert.That(without.Warnings, Has.One.Contains("in 1 of 2 rows there is no white space between prompt and completion").And.One.Contains($"{path}:2").And.One.Contains("separator"));
        var with = Read(path, new DataSource { Path = path, Separator = "\n" });
        Assert.That(with.Warnings, Is.Empty);
        Assert.That(Rows.Text(with.Train.Rows[0]), Is.EqualTo("What is 2+2?\n4" + CharacterTokenizer.End));
        Assert.That(Rows.Trained(with.Train.Rows[0]), Is.EqualTo("4" + CharacterTokenizer.End), "the separator is the prompt's");
        Assert.That(Read(path, new DataSource { Path = path, Separator = "" }).Warnings, Is.Empty, "nothing between them is meant");
    }

    [Test]
    public void A_preference_whose_prompt_and_answers_run_together_is_warned_of_too()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", "{\"prompt\": \"Say \", \"chosen\": \"yes\", \"rejected\": \"no\"}\n{\"prompt\": \"Say\", \"chosen\": \" yes\", \"rejected\": \"no\"}\n");
        Assert.That(Rows.Read(path, template: null).Warnings, Has.One.Contains("in 1 of 2 rows there is no white space").And.One.Contains($"{path}:2"));
    }

    private static OpenWeights.Tune.Data.RunData Read(string path, DataSource source) => Rows.Read(path, template: null, section: Rows.Unpacked with { Train = [source] });
}
