using NUnit.Framework;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Files;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>Which files of a data set on the Hub are a split.</summary>
public sealed class HubDataTests
{
    private static readonly string[] s_usual = ["README.md", ".gitattributes", "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet", "dataset_infos.json"];

    [Test]
    public void Names_and_folders_say_the_split()
    {
        Assert.That(Choose(s_usual), Is.EqualTo(new[] { "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet" }));
        Assert.That(Choose(s_usual, split: "test"), Is.EqualTo(new[] { "data/test-00000-of-00001.parquet" }));
        Assert.That(Choose(["training/a.jsonl", "dev/a.jsonl.gz"], split: "validation"), Is.EqualTo(new[] { "dev/a.jsonl.gz" }));
        Assert.That(Choose(["rows.csv", "more.csv"]), Is.EqualTo(new[] { "more.csv", "rows.csv" }), "files that name none are training data");
        Assert.That(Choose(["main/train-0.parquet", "socratic/train-0.parquet"], config: "socratic"), Is.EqualTo(new[] { "socratic/train-0.parquet" }));
        Assert.That(Choose(["script.py", "README.md"]), Is.Empty);
    }

    [Test]
    public void A_card_that_names_the_files_counts()
    {
        const string card = """
            ---
            license: mit
            configs:
            - config_name: main
              default: true
              data_files:
              - split: train
                path: main/train-*
              - split: test
                path: [main/test-*, "main/more/**/x.parquet"]
            - config_name: socratic
              data_dir: socratic
              data_files: train-*.parquet
            ---
            # Rows
            """;
        string[] files = ["main/train-0.parquet", "main/test-0.parquet", "main/more/a/b/x.parquet", "socratic/train-0.parquet", "socratic/test-0.parquet"];
        Assert.That(Choose(files, card: card), Is.EqualTo(new[] { "main/train-0.parquet" }));
        Assert.That(Choose(files, card: card, split: "test"), Is.EqualTo(new[] { "main/more/a/b/x.parquet", "main/test-0.parquet" }));
        Assert.That(Choose(files, card: card, config: "socratic"), Is.EqualTo(new[] { "socratic/train-0.parquet" }));
        Assert.That(() => Choose(files, card: card, config: "sokratic"), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("it has main, socratic. Did you mean socratic?"));
        Assert.That(() => Choose(files, card: card, split: "dev"), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("has no split 'dev'; it has test, train"));
    }

    [Test]
    public void What_cannot_be_known_is_asked_for()
    {
        Assert.That(() => Choose(["de/train/0.parquet", "fr/train/0.parquet"]), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("several configs: de, fr"));
        Assert.That(() => Choose(s_usual, split: "validation"), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("it has test, train"));
        Assert.That(() => Choose(s_usual, config: "de"), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("no config 'de'"));
    }

    [Test]
    public void The_settings_are_checked_before_anything_is_downloaded()
    {
        static string[] Problems(string data) => [.. Assert.Throws<ConfigException>(() => RunConfigFile.Parse("t.yaml", $"output_dir: x\nmodel: {{ path: m }}\ndata: {data}\n", []))!.Problems.Select(static p => $"{p.Key}: {p.Message}")];
        Assert.That(Problems("{ train: hub://rows }").Single(), Does.StartWith("data.train.0.path: 'hub://rows' names no data set of the Hub"));
        Assert.That(Problems("{ train: [ { path: rows.jsonl, split: test } ] }").Single(), Does.Contain("data.train.0.split").And.Contains("hub://ORG/NAME"));
        Assert.That(Problems("{ train: hub://org/rows, eval: hub://org/rows }").Single(), Does.Contain("data.eval.0.split"));
        var file = RunConfigFile.Parse("t.yaml", "output_dir: x\nmodel: { path: m }\ndata: { train: hub://org/rows@v1, eval: [ { path: hub://org/rows, split: test, config: main } ] }\n", []);
        Assert.That(file.Config.Data.Train.Single().Path, Is.EqualTo("hub://org/rows@v1"), "it is no path of this machine");
    }

    private static IReadOnlyList<string> Choose(string[] files, string card = "", string? split = null, string? config = null) =>
        HubSplits.Choose(new DataSource { Path = "hub://org/rows", Split = split, Config = config }, card, files);
}
