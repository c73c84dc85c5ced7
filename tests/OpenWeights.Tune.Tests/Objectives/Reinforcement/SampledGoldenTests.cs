using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives.Reinforcement;

/// <summary>Losses, gradients and metrics of recorded answers, from a YAML file and rows of tokens, against TRL 1.16's GRPOTrainer and RLOOTrainer.</summary>
[Category(TestDevice.Parity)]
public sealed class SampledGoldenTests
{
    private const string Set = "objectives";

    private static IEnumerable<string> Cases =>
        SharedFiles.FindNames("golden.json", "goldens", Set).Select(static n => n.Split('/')[0]).Where(static n => n.Split('_')[0] is "grpo" or "rloo").DefaultIfEmpty("grpo_dapo");

    [TestCaseSource(nameof(Cases))]
    public void Losses_gradients_and_metrics_are_TRLs(string name)
    {
        using var golden = new Golden(name, Set);
        using var folder = new TemporaryFolder();
        using var run = new RecordedRun(folder, golden);
        var (loss, metrics, rows) = run.Step();
        foreach (var (row, advantage) in rows.Zip(golden.Json["rows"]!["advantages"]!.AsArray()))
        {
            Assert.That(row.Sample!.Advantage, Is.EqualTo(advantage!.GetValue<double>()).Within(5e-6));
        }

        Assert.That(loss, Is.EqualTo(golden.Json["loss"]!.GetValue<double>()).Within(1e-5 * Math.Max(1, Math.Abs(loss)) * TestDevice.Slack));
        Assert.That(run.Norm, Is.EqualTo(golden.Json["grad_norm_total"]!.GetValue<double>()).Within(2e-3).Percent);
        foreach (var (parameter, tensor) in run.Adapter.Parameters)
        {
            var expected = golden.Tensor("grad.base_model.model." + parameter.Replace(".weight", ".default.weight", StringComparison.Ordinal));
            Assert.That(Golden.LargestDifference(tensor.grad!, expected), Is.LessThan(1e-5 * Math.Max(1, run.Norm) * TestDevice.Slack), parameter);
        }

        // TRL averages the clipping and the entropy of micro-batches; here they are means over the tokens of the step.
        var ofStep = golden.Json["micro_losses"] is null;
        foreach (var (metric, value) in golden.Json["metrics"]!.AsObject().Where(m => ofStep || !(m.Key == "entropy" || m.Key.StartsWith("clip_ratio", StringComparison.Ordinal))))
        {
            Assert.That(metrics, Contains.Key(metric));
            Assert.That(metrics[metric], Is.EqualTo(value!.GetValue<double>()).Within(2e-5 * Math.Max(1, Math.Abs(value.GetValue<double>())) * TestDevice.Slack), metric);
        }
    }

    [TestCase("grpo_dapo_kl")]
    [TestCase("grpo_gspo_kl")]
    [TestCase("grpo_mask_truncated")]
    [TestCase("grpo_dr_grpo")]
    [TestCase("grpo_luspo")]
    [TestCase("grpo_vespo")]
    [TestCase("grpo_entropy_coef")]
    [TestCase("rloo")]
    public void Several_micro_batches_give_the_loss_and_gradient_of_one(string name)
    {
        using var golden = new Golden(name, Set);
        using var folder = new TemporaryFolder();
        using var run = new RecordedRun(folder, golden, microBatch: 2);
        var (loss, metrics, _) = run.Step();
        Assert.That(loss, Is.EqualTo(golden.Json["loss"]!.GetValue<double>()).Within(1e-5));
        Assert.That(run.Norm, Is.EqualTo(golden.Json["grad_norm_total"]!.GetValue<double>()).Within(2e-3).Percent);
        Assert.That(metrics["entropy"], Is.EqualTo(golden.Json["metrics"]!["entropy"]!.GetValue<double>()).Within(1e-3).Percent);
    }

    [Test]
    public void Rows_of_a_group_may_stand_anywhere_in_the_file()
    {
        using var golden = new Golden("grpo_grpo", Set);
        using var folder = new TemporaryFolder();
        using var run = new RecordedRun(folder, golden, reorder: static lines => [.. Enumerable.Range(0, lines.Count / 2).SelectMany(i => new[] { lines[i], lines[i + (lines.Count / 2)] })]);
        Assert.That(run.Step().Loss, Is.EqualTo(golden.Json["loss"]!.GetValue<double>()).Within(1e-5));
    }

    [Test]
    public void Twenty_steps_of_two_passes_over_each_batch_are_TRLs()
    {
        using var golden = new Golden("traj_grpo", Set);
        using var folder = new TemporaryFolder();
        var (groups, lines) = (0, new List<string>());
        foreach (var batch in golden.Json["samples"]!.AsArray())
        {
            foreach (var four in batch!.AsArray().Chunk(4))
            {
                lines.AddRange(four.Select(s => new JsonObject
                {
                    ["prompt_ids"] = s!["prompt"]!.DeepClone(),
                    ["completion_ids"] = s["completion"]!.DeepClone(),
                    ["group"] = groups,
                    ["rewards"] = new JsonObject { ["first"] = s["reward"]!.DeepClone() },
                }.ToJsonString()));
                groups++;
            }
        }

        _ = folder.Write("samples.jsonl", string.Join('\n', lines) + "\n");
        var steps = golden.Json["steps"]!.AsArray();
        var config = RecordedRun.Config(folder, golden, "samples: samples.jsonl, reference: base", $"max_steps: {steps.Count}, micro_batch_size: 8");
        using (var run = TrainingRun.Prepare(config, new SilentListener(), new RunOptions { IgnoreMemory = true }))
        {
            _ = run.Run(overwrite: true, "test", CancellationToken.None);
        }

        var written = File.ReadAllLines(folder.At("out", "metrics.jsonl")).Select(static l => JsonNode.Parse(l)!.AsObject()).Where(static l => l["loss"] is not null).ToList();
        Assert.That(written, Has.Count.EqualTo(steps.Count));
        foreach (var (line, step) in written.Zip(steps))
        {
            Assert.That(line["loss"]!.GetValue<double>(), Is.EqualTo(step!["loss"]!.GetValue<double>()).Within(2e-5 * TestDevice.Slack), line["step"]!.ToJsonString());
            Assert.That(line["grad_norm"]!.GetValue<double>(), Is.EqualTo(step["grad_norm"]!.GetValue<double>()).Within(5e-3).Percent, line["step"]!.ToJsonString());
            foreach (var (metric, value) in step["metrics"]!.AsObject())
            {
                Assert.That(line[metric]!.GetValue<double>(), Is.EqualTo(value!.GetValue<double>()).Within(1e-4 * Math.Max(1, Math.Abs(value.GetValue<double>()))), $"{line["step"]} {metric}");
            }
        }

        using var trained = SafetensorsFile.Open(folder.At("out", "adapter", "adapter_model.safetensors"));
        foreach (var tensor in golden.Tensors.Tensors.Where(static t => t.Name.StartsWith("final.", StringComparison.Ordinal)))
        {
            using var scope = NewDisposeScope();
            Assert.That(Golden.LargestDifference(TensorFiles.Read(trained, tensor.Name["final.".Length..]), golden.Tensor(tensor.Name)), Is.LessThan(2e-5), tensor.Name);
        }
    }
}
