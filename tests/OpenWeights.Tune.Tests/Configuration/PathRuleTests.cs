using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests.Configuration;

/// <summary>Paths in YAML: ~, variables, the rule for relative ones, and one in the place of a list.</summary>
public sealed class PathRuleTests
{
    private static readonly string s_home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);

    [TestCase("~/run", "~/m", "~/m/rows.jsonl")]
    [TestCase("${HOME}/run", "${HOME}/m", "${HOME}/m/rows.jsonl")]
    [TestCase("$HOME/run", "$HOME/m", "$HOME/m/rows.jsonl")]
    [TestCase("\"~/run\"", "\"${HOME}/m\"", "\"${HOME}/m/rows.jsonl\"")]
    [Platform(Exclude = "Win", Reason = "HOME is not set there")]
    public void The_home_folder_is_what_a_shell_takes_it_for(string output, string model, string rows)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", $"output_dir: {output}\nmodel: {{ path: {model} }}\ndata: {{ train: [ {{ path: {rows} }} ] }}\n");
        var config = RunConfigFile.Read(path, []);
        Assert.That(config.OutputDir, Is.EqualTo(Path.Combine(s_home, "run")));
        Assert.That(config.Model.Path, Is.EqualTo(Path.Combine(s_home, "m")));
        Assert.That(config.Data.Train[0].Path, Is.EqualTo(Path.Combine(s_home, "m", "rows.jsonl")));
        Assert.That(RunConfigFile.Read(path, ["output_dir=~/other"]).OutputDir, Is.EqualTo(Path.Combine(s_home, "other")));
    }

    [TestCase("runs/~/x", "only at the start of a path, for the home folder")]
    [TestCase("~nobody-of-that-name/x", "your own home folder")]
    [TestCase("${NO_SUCH_VARIABLE_OF_OWT}/x", "NO_SUCH_VARIABLE_OF_OWT is not set")]
    [TestCase("\"runs\\better\"", "In double quotes a backslash begins such characters; write / or single quotes.")]
    public void What_is_no_home_folder_and_no_variable_is_refused_at_its_place(string output, string told)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", $"model: {{ path: m }}\ndata: {{ train: rows.jsonl }}\noutput_dir: {output}\n");
        Assert.That(() => RunConfigFile.Read(path, []), Throws.InstanceOf<ConfigException>().With.Message.Contains(told).And.Message.Contains($"{path}:3:13: output_dir"));
    }

    [Test]
    public void Columns_stay_where_a_variable_stands_before_them()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", "output_dir: x\nmodel: { path: ${HOME}/m, dtype: bf61 }\ndata: { train: rows.jsonl }\n");
        Assert.That(() => RunConfigFile.Read(path, []), Throws.InstanceOf<ConfigException>().With.Message.Contains($"{path}:2:34: model.dtype"));
    }

    [TestCase("train: rows.jsonl")]
    [TestCase("train: { path: rows.jsonl }")]
    [TestCase("train: [ rows.jsonl ]")]
    [TestCase("train: [ { path: rows.jsonl } ]")]
    public void One_path_is_a_list_of_one(string train)
    {
        using var folder = new TemporaryFolder();
        folder.Write("rows.jsonl", "");
        var path = folder.Write("train.yaml", $"output_dir: x\nmodel: {{ path: m }}\nadapter: {{ modules_to_save: lm_head, layers_to_transform: 1 }}\ndata: {{ {train}, eval: rows.jsonl }}\n");
        var config = RunConfigFile.Read(path, []);
        Assert.That(config.Data.Train.Select(static d => d.Path), Is.EqualTo(new[] { folder.At("rows.jsonl") }));
        Assert.That(config.Data.Eval.Select(static d => d.Path), Is.EqualTo(new[] { folder.At("rows.jsonl") }));
        Assert.That(config.Adapter!.ModulesToSave, Is.EqualTo(new[] { "lm_head" }));
        Assert.That(config.Adapter.LayersToTransform, Is.EqualTo(new[] { 1 }));
        Assert.That(RunConfigFile.Read(path, ["data.train.0.limit=3"]).Data.Train.Select(static d => (Path.GetFileName(d.Path), d.Limit)), Is.EqualTo(new[] { ("rows.jsonl", (int?)3) }));
        Assert.That(RunConfigFile.Read(path, ["data.train=other.jsonl"]).Data.Train, Has.Count.EqualTo(1));
    }

    [Test]
    public void A_path_that_is_nowhere_is_told_with_both_places_and_the_nearest_name()
    {
        using var folder = new TemporaryFolder();
        folder.Write("rows.jsonl", "{}");
        folder.Write("model/config.json", "{}");
        var path = folder.Write("train.yaml", "output_dir: x\nmodel: { path: modle }\nadapter: { path: nothing-here }\ndata:\n  train:\n    - rowz.jsonl\n    - rows.jsonl\n");
        var problems = RunCheck.Problems(RunConfigFile.Open(path, [])).Select(static p => p.ToString()).ToList();
        Assert.That(problems, Has.Count.EqualTo(3));
        Assert.That(problems, Has.One.Contains($"{path}:6:7: data.train.0.path: neither {folder.At("rowz.jsonl")} (next to this file) nor {Path.GetFullPath("rowz.jsonl")} (in the current folder) exists. Did you mean {folder.At("rows.jsonl")}?"));
        Assert.That(problems, Has.One.Contains($"{path}:2:16: model.path:").And.One.Contains($"Did you mean {folder.At("model")}?"));
        Assert.That(problems, Has.One.Contains($"{path}:3:18: adapter.path:"));
    }
}
