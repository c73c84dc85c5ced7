using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests.Objectives.Labels;

/// <summary>The example configs of reward models, classifiers and embeddings improve what they are for, on rows that they are not trained on.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class LabelConfigTests
{
    [TestCase("reward", "eval_accuracy", 0.95)]
    [TestCase("classification", "eval_accuracy", 0.9)]
    [TestCase("embedding", "eval_recall@1", 0.7)]
    public void A_config_improves_its_metric_on_held_back_rows(string name, string metric, double least)
    {
        using var folder = new TemporaryFolder();
        var config = RunConfigFile.Read(Path.Combine(SharedFiles.Root, "configs", $"{name}.yaml"), [$"output_dir={folder.Root}/run"]);
        using var run = TrainingRun.Prepare(config, new SilentListener(), new RunOptions { IgnoreMemory = true });
        _ = run.Run(overwrite: true, "test", CancellationToken.None);
        var evaluations = File.ReadAllLines(folder.At("run", "metrics.jsonl")).Select(static l => JsonNode.Parse(l)!.AsObject()).Where(l => l[metric] is not null).ToList();
        TestContext.Out.WriteLine($"{name}: {string.Join(", ", evaluations.Select(e => $"{metric} {e[metric]!.GetValue<double>():F3} at step {e["step"]}"))}");
        Assert.That(evaluations[^1][metric]!.GetValue<double>(), Is.GreaterThan(least));
        Assert.That(evaluations[^1]["eval_loss"]!.GetValue<double>(), Is.LessThan(evaluations[0]["eval_loss"]!.GetValue<double>()));
    }
}
