using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests.Configuration;

/// <summary>Settings that a program puts together are checked as a YAML file's are.</summary>
public sealed class SettingCheckTests
{
    private static RunConfig Right => new() { OutputDir = "x", Model = new ModelSection { Path = "m" }, Data = new DataSection { Train = [new DataSource { Path = "rows.jsonl" }] } };

    [Test]
    public void A_right_config_has_no_problem() => Assert.That(SettingCheck.Problems(Right), Is.Empty);

    [Test]
    public void What_is_null_and_must_not_be_is_told_with_its_name()
    {
        static IEnumerable<string> Keys(RunConfig config) => SettingCheck.Problems(config).Where(static p => p.Message.StartsWith("null is not possible here", StringComparison.Ordinal)).Select(static p => p.Key);
        Assert.That(Keys(Right with { Model = null!, Training = null! }), Is.EqualTo(new[] { "model", "training" }));
        Assert.That(Keys(Right with { Data = Right.Data with { Train = null! } }), Is.EqualTo(new[] { "data.train" }));
        Assert.That(Keys(Right with { Data = Right.Data with { Train = [null!], Eval = [new DataSource { Path = null! }] } }), Is.EqualTo(new[] { "data.train.0", "data.eval.0.path" }));
        Assert.That(Keys(Right with { Adapter = new AdapterSection { TargetModules = null! } }), Is.EqualTo(new[] { "adapter.target_modules" }));
        Assert.That(Keys(Right with { Adapter = null, Quantization = null, Model = Right.Model with { ChatTemplate = null } }), Is.Empty);
    }

    [Test]
    public void Every_problem_is_told_at_once_before_anything_is_read()
    {
        var config = Right with
        {
            OutputDir = "~/run",
            Training = new TrainingSection { Optimizer = "adam", LrScheduler = "cosin", LearningRate = -1, Betas = [0.9] },
            Adapter = new AdapterSection { Type = "dora" },
            Data = new DataSection { MaxLength = 1 },
        };
        var problems = Assert.Throws<ConfigException>(() => TrainingRun.Prepare(config, new SilentListener()))!.Problems.Select(static p => p.ToString()).ToList();
        Assert.That(problems, Has.One.EqualTo("training.optimizer: 'adam' is not a valid value; write adamw."));
        Assert.That(problems, Has.One.Contains("training.lr_scheduler: 'cosin' is not a valid value; valid values are").And.One.Contains("Did you mean cosine?"));
        Assert.That(problems, Has.One.EqualTo("training.learning_rate: -1 is out of range; it must be at least 0."));
        Assert.That(problems, Has.One.Contains("training.betas: two numbers are expected"));
        Assert.That(problems, Has.One.Contains("adapter.use_dora: true"));
        Assert.That(problems, Has.One.Contains("data.max_length: 1 is out of range"));
        Assert.That(problems, Has.One.Contains("data.train: this setting is required"));
        Assert.That(problems, Has.One.Contains("output_dir: '~/run' would be a folder named ~"));
    }

    [Test]
    public void The_words_are_those_of_a_files_check()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", "output_dir: x\nmodel: { path: m, dtype: bf17 }\ndata: { train: rows.jsonl, max_length: 1 }\ntraining: { optimizer: adamz, betas: [0.9] }\n");
        var ofFile = Assert.Throws<ConfigException>(() => RunConfigFile.Read(path, []))!.Problems.Select(static p => (p.Key, p.Message));
        var ofProgram = SettingCheck.Problems(Right with
        {
            Model = new ModelSection { Path = "m", Dtype = "bf17" },
            Data = Right.Data with { MaxLength = 1 },
            Training = new TrainingSection { Optimizer = "adamz", Betas = [0.9] },
        }).Select(static p => (p.Key, p.Message));
        Assert.That(ofProgram, Is.EquivalentTo(ofFile));
    }
}
