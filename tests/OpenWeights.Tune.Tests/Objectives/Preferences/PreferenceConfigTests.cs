using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests.Objectives.Preferences;

/// <summary>The example configs of preferences improve what they are for, on rows that they are not trained on.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class PreferenceConfigTests
{
    [TestCase("dpo", "eval_rewards/accuracies", 0.95)]
    [TestCase("orpo", "eval_rewards/accuracies", 0.95)]
    [TestCase("simpo", "eval_rewards/accuracies", 0.95)]
    [TestCase("kto", "eval_rewards/margins", 0.2)]
    [TestCase("bco", "eval_rewards/margins", 0.2)]
    public void A_config_improves_its_metric_on_held_back_rows(string name, string metric, double least)
    {
        using var folder = new TemporaryFolder();
        var config = RunConfigFile.Read(Path.Combine(SharedFiles.Root, "configs", $"{name}.yaml"), [$"output_dir={folder.Root}/run"]);
        using var run = TrainingRun.Prepare(config, new SilentListener(), new RunOptions { IgnoreMemory = true });
        _ = run.Run(overwrite: true, "test", CancellationToken.None);
        var evaluations = File.ReadAllLines(folder.At("run", "metrics.jsonl")).Select(static l => JsonNode.Parse(l)!.AsObject()).Where(l => l[metric] is not null).ToList();
        TestContext.Out.WriteLine($"{name}: {string.Join(", ", evaluations.Select(e => $"{metric} {e[metric]!.GetValue<double>():F3} at step {e["step"]}"))}");
        Assert.That(evaluations, Has.Count.EqualTo(2));
        Assert.That(evaluations[^1][metric]!.GetValue<double>(), Is.GreaterThan(least));
        Assert.That(evaluations[^1]["eval_loss"]!.GetValue<double>(), Is.LessThan(evaluations[0]["eval_loss"]!.GetValue<double>()));
    }
}
