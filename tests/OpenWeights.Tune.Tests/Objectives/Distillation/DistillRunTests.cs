using System.Globalization;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives.Distillation;

/// <summary>Whole runs of distillation, from a YAML file and rows of tokens to metrics.jsonl and the adapter.</summary>
[Category(TestDevice.Parity)]
public sealed class DistillRunTests
{
    private const string Set = "objectives";

    [Test]
    public void Twenty_steps_are_TRLs()
    {
        using var golden = new Golden("traj_gkd", Set);
        using var folder = new TemporaryFolder();
        var steps = golden.Json["steps"]!.AsArray();
        var rows = golden.Json["batches"]!.AsArray().SelectMany(static b => Rows(b!)).ToList();
        Run(folder, golden, "beta: 0.5", rows, $"max_steps: {steps.Count}, micro_batch_size: {rows.Count / golden.Json["batches"]!.AsArray().Count}");
        var lines = Metrics(folder);
        Assert.That(lines, Has.Count.EqualTo(steps.Count));
        foreach (var (line, step) in lines.Zip(steps))
        {
            Assert.That(line["loss"]!.GetValue<double>(), Is.EqualTo(step!["loss"]!.GetValue<double>()).Within(1e-5 * TestDevice.Slack), line["step"]!.ToJsonString());
            Assert.That(line["grad_norm"]!.GetValue<double>(), Is.EqualTo(step["grad_norm"]!.GetValue<double>()).Within(2e-3).Percent, line["step"]!.ToJsonString());
        }

        using var trained = SafetensorsFile.Open(folder.At("out", "adapter", "adapter_model.safetensors"));
        foreach (var tensor in golden.Tensors.Tensors.Where(static t => t.Name.StartsWith("final.", StringComparison.Ordinal)))
        {
            using var scope = NewDisposeScope();
            Assert.That(Golden.LargestDifference(TensorFiles.Read(trained, tensor.Name["final.".Length..]), golden.Tensor(tensor.Name)), Is.LessThan(1e-5), tensor.Name);
        }
    }

    [Test]
    public void Stored_log_probabilities_give_the_steps_of_the_teacher_and_are_read_by_the_next_run()
    {
        using var golden = new Golden("distill_topk_beta0", Set);
        using var folder = new TemporaryFolder();
        List<string> rows = [.. Rows(golden.Json["batch"]!)];
        const string objective = "beta: 0, teacher_top_k: 8";
        var first = Run(folder, golden, objective, rows, "max_steps: 4, micro_batch_size: 2");
        var losses = Metrics(folder).ConvertAll(static l => l["loss"]!.GetValue<double>());
        Assert.That(first.LogProbs!.IsThere, Is.False);
        Assert.That(new FileInfo(first.LogProbs.Path).Length, Is.EqualTo(first.LogProbs.Bytes));

        var second = Run(folder, golden, objective, rows, "max_steps: 4, micro_batch_size: 2");
        Assert.That(second.LogProbs, Is.EqualTo(first.LogProbs with { IsThere = true }));
        Assert.That(Metrics(folder).ConvertAll(static l => l["loss"]!.GetValue<double>()), Is.EqualTo(losses));

        // Another number of tokens or temperature is another file.
        Assert.That(Run(folder, golden, "beta: 0, teacher_top_k: 9", rows, "max_steps: 1, micro_batch_size: 2").LogProbs!.Path, Is.Not.EqualTo(first.LogProbs.Path));
        Assert.That(Run(folder, golden, "beta: 0, teacher_top_k: 8, temperature: 2", rows, "max_steps: 1, micro_batch_size: 2").LogProbs!.Path, Is.Not.EqualTo(first.LogProbs.Path));
    }

    [Test]
    public void One_step_from_YAML_is_TRLs_with_a_quantized_teacher_near_it()
    {
        using var golden = new Golden("gkd_beta0_t1", Set);
        using var folder = new TemporaryFolder();
        List<string> rows = [.. Rows(golden.Json["batch"]!)];
        Run(folder, golden, "beta: 0", rows, "max_steps: 1, micro_batch_size: 4");
        var loss = golden.Json["loss"]!.GetValue<double>();
        Assert.That(Metrics(folder)[0]["loss"]!.GetValue<double>(), Is.EqualTo(loss).Within(1e-5));
        Assert.That(Metrics(folder)[0]["grad_norm"]!.GetValue<double>(), Is.EqualTo(golden.Json["grad_norm_total"]!.GetValue<double>()).Within(1e-3).Percent);
        Run(folder, golden, "beta: 0, teacher_quantization: int8", rows, "max_steps: 1, micro_batch_size: 4");
        Assert.That(Metrics(folder)[0]["loss"]!.GetValue<double>(), Is.EqualTo(loss).Within(3).Percent.And.Not.EqualTo(loss).Within(1e-5));
    }

    [Test]
    public void A_teacher_of_another_vocabulary_is_refused_with_what_differs()
    {
        using var golden = new Golden("gkd_beta0_t1", Set);
        using var folder = new TemporaryFolder();
        var teacher = Directory.CreateDirectory(folder.At("teacher")).FullName;
        var config = JsonNode.Parse(File.ReadAllText(Path.Combine(golden.Folder, "..", "teacher", "config.json")))!;
        config["vocab_size"] = 300;
        File.WriteAllText(Path.Combine(teacher, "config.json"), config.ToJsonString());
        Assert.That(
            () => Run(folder, golden, "beta: 0", [.. Rows(golden.Json["batch"]!)], "max_steps: 1, micro_batch_size: 4", teacher),
            Throws.InstanceOf<InvalidDataException>().With.Message.Contains("another vocabulary").And.Message.Contains("300 tokens, and the student 256"));
    }

    [Test]
    public void A_teacher_that_changed_before_the_run_goes_on_is_told()
    {
        using var golden = new Golden("gkd_beta0_t1", Set);
        using var folder = new TemporaryFolder();
        var teacher = Directory.CreateDirectory(folder.At("teacher")).FullName;
        foreach (var file in Directory.GetFiles(Path.Combine(golden.Folder, "..", "teacher")))
        {
            File.Copy(file, Path.Combine(teacher, Path.GetFileName(file)));
        }

        List<string> rows = [.. Rows(golden.Json["batch"]!)];
        Run(folder, golden, "beta: 0", rows, "max_steps: 1, micro_batch_size: 4", teacher);
        var listener = new SilentListener();
        Run(folder, golden, "beta: 0", rows, "max_steps: 2, micro_batch_size: 4", teacher, listener);
        Assert.That(listener.Warnings, Has.None.Contains("changed since the run was started"));
        var config = Path.Combine(teacher, "config.json");
        File.WriteAllText(config, File.ReadAllText(config) + " ");
        Run(folder, golden, "beta: 0", rows, "max_steps: 3, micro_batch_size: 4", teacher, listener);
        Assert.That(listener.Warnings, Has.One.Contains("the files of the teacher, reference or reward model (config.json) changed since the run was started"));
    }

    private static RunPlan Run(TemporaryFolder folder, Golden golden, string objective, IReadOnlyList<string> rows, string training, string? teacher = null, SilentListener? goesOn = null)
    {
        var @base = Path.GetFullPath(Path.Combine(golden.Folder, ".."));
        _ = folder.Write("rows.jsonl", string.Join('\n', rows) + "\n");
        var path = folder.Write("train.yaml", $$"""
            output_dir: '{{folder.Root}}/out'
            model: { path: '{{@base}}/model', dtype: float32, device: '{{TestDevice.Name}}' }
            adapter: { path: '{{@base}}/policy_adapter', any_base: true }
            data: { train: rows.jsonl, shuffle: false, packing: false, max_length: 64, cache_dir: '{{folder.Root}}/cache' }
            objective: { type: distill, teacher: '{{teacher ?? $"{@base}/teacher"}}', {{objective}} }
            training: { {{training}}, learning_rate: 1.0e-3, lr_scheduler: constant, warmup_steps: 0, betas: [0.9, 0.999], eps: 1.0e-8, weight_decay: 0.01, max_grad_norm: 1.0 }
            evaluation: { generate_rows: 0 }
            """);
        using var run = TrainingRun.Prepare(RunConfigFile.Read(path, []), goesOn ?? new SilentListener(), new RunOptions { IgnoreMemory = true, Resume = goesOn is not null });
        var plan = run.Plan;
        _ = run.Run(overwrite: goesOn is null, "test", CancellationToken.None);
        return plan;
    }

    private static List<JsonObject> Metrics(TemporaryFolder folder) =>
        [.. File.ReadAllLines(folder.At("out", "metrics.jsonl")).Select(static l => JsonNode.Parse(l)!.AsObject()).Where(static l => l["loss"] is not null)];

    // The rows of a batch that was padded already.
    private static IEnumerable<string> Rows(JsonNode batch)
    {
        var (ids, attention, labels) = (batch["input_ids"]!.AsArray(), batch["attention_mask"]!.AsArray(), batch["labels"]!.AsArray());
        for (var i = 0; i < ids.Count; i++)
        {
            string Kept(JsonArray rows) => string.Join(',', rows[i]!.AsArray().Where((_, t) => attention[i]![t]!.GetValue<int>() == 1).Select(static v => v!.GetValue<int>().ToString(CultureInfo.InvariantCulture)));
            yield return $$"""{"input_ids":[{{Kept(ids)}}],"labels":[{{Kept(labels)}}]}""";
        }
    }
}
