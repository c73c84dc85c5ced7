using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>owt train, from the outside.</summary>
public sealed class TrainTests
{
    [Test]
    public void A_run_writes_the_folder_that_scripts_rely_on()
    {
        using var work = new Workspace();
        var owt = Owt.Run(work.Root, 0, "train", "train.yaml");
        Assert.That(owt.Output, Does.Contain("adapter written to run/adapter after "));
        Assert.That(owt.Error, Does.Contain("step 12/12"));
        Assert.That(owt.Output, Does.Not.Contain("step "), "progress is on stderr");
        Assert.That(Directory.GetFileSystemEntries(work.At("run")).Select(Path.GetFileName), Is.SupersetOf(new[] { "config.yaml", "manifest.json", "metrics.jsonl", "checkpoints", "adapter" }));
        var steps = File.ReadLines(work.At("run", "metrics.jsonl")).Select(static l => JsonNode.Parse(l)!.AsObject()).ToList();
        Assert.That(steps, Has.Count.EqualTo(12));
        Assert.That(steps[0].Select(static p => p.Key), Is.SupersetOf(new[] { "step", "epoch", "loss", "learning_rate", "grad_norm", "tokens", "target_tokens", "tokens_per_second", "seconds", "peak_memory_bytes" }));
        Assert.That(steps[0]["learning_rate"]!.GetValue<double>(), Is.Zero, "warm-up begins at 0");
        Assert.That(File.ReadAllText(work.At("run", "config.yaml")), Does.Contain("max_grad_norm: 1").And.Contains("r: 4"));
    }

    [Test]
    public void A_dry_run_shows_the_plan_and_rows_and_writes_nothing()
    {
        using var work = new Workspace();
        var owt = Owt.Run(work.Root, 0, "train", "train.yaml", "--dry-run");
        Assert.That(owt.Output, Does.Contain("30 rows").And.Contains("memory").And.Contains("rows.jsonl:1"));
        Assert.That(Directory.Exists(work.At("run")), Is.False);
    }

    [Test]
    public void A_mistyped_key_ends_with_1_and_its_line()
    {
        using var work = new Workspace();
        var yaml = work.Write("typo.yaml", File.ReadAllText(work.At("train.yaml")).Replace("lora_alpha", "lora_alhpa", StringComparison.Ordinal));
        var owt = Owt.Run(work.Root, 1, "train", yaml);
        Assert.That(owt.Error, Does.Contain("typo.yaml:4:").And.Contains("did you mean lora_alpha?"));
        Assert.That(owt.Error, Does.Not.Contain("   at "), "no stack trace");
        Assert.That(Owt.Run(work.Root, 1, "validate", yaml).Error, Does.Contain("did you mean lora_alpha?"));
    }

    [Test]
    public void A_model_file_with_one_byte_missing_ends_with_2_and_names_file_and_tensor()
    {
        using var work = new Workspace();
        var path = work.At("model", "model.safetensors");
        File.WriteAllBytes(path, File.ReadAllBytes(path)[..^1]);
        var owt = Owt.Run(work.Root, 2, "train", "train.yaml");
        Assert.That(owt.Error, Does.Contain("model.safetensors").And.Contains("model.norm.weight"));
    }

    [TestCase("INT")]
    [TestCase("TERM")]
    public void A_signal_finishes_the_step_saves_ends_with_130_and_the_run_goes_on_as_if_nothing_had_been(string signal)
    {
        using var work = new Workspace("max_steps: 200, micro_batch_size: 2, warmup_steps: 2, learning_rate: 1.0e-3");
        Owt.Run(work.Root, 0, "train", "train.yaml", "output_dir=straight");
        var stopped = Owt.Start(work.Root, "train", "train.yaml", "checkpoint.every_steps=0");
        stopped.WaitForError("step 1/200");
        stopped.Signal(signal);
        Assert.That(stopped.WaitForExit(), Is.EqualTo(130), stopped.Error);
        Assert.That(Directory.GetDirectories(work.At("run", "checkpoints")), Has.Length.EqualTo(1));
        Owt.Run(work.Root, 0, "train", "train.yaml", "checkpoint.every_steps=0", "--resume");
        Assert.That(File.ReadAllBytes(work.At("run", "adapter", "adapter_model.safetensors")), Is.EqualTo(File.ReadAllBytes(work.At("straight", "adapter", "adapter_model.safetensors"))));
    }

    [Test]
    public void A_measurement_has_nothing_to_save_and_ends_with_130_without_a_result()
    {
        using var folder = new TemporaryFolder();
        var stopped = Owt.Start(
            folder.Root, "bench", "train", "--hidden-size", "32", "--layers", "1", "--heads", "2", "--kv-heads", "1", "--intermediate-size", "64", "--vocab-size", "100", "--seq-len", "16",
            "--batch-size", "1", "--steps", "100000");

        // Whenever it comes: from the program's first moments on it is heard.
        Thread.Sleep(1500);
        stopped.Signal("TERM");
        Assert.That(stopped.WaitForExit(), Is.EqualTo(130).Or.EqualTo(143), stopped.Error);
        Assert.That(stopped.Output, Is.Empty);
    }

    [Test]
    public void A_second_signal_stops_at_once()
    {
        using var work = new Workspace("max_steps: 4, micro_batch_size: 600, warmup_steps: 2", rows: 2400);
        var stopped = Owt.Start(work.Root, "train", "train.yaml", "checkpoint.every_steps=0");
        stopped.WaitForError("step 1/4");
        stopped.Signal("INT");
        stopped.WaitForEnd("stopping after this step");
        stopped.Signal("INT");
        Assert.That(stopped.WaitForExit(), Is.EqualTo(130), stopped.Error);
        Assert.That(File.Exists(work.At("run", "adapter")), Is.False);
    }

    [Test]
    public void Answers_are_given_and_scored_before_during_and_after_training()
    {
        using var work = new Workspace();
        var rows = Enumerable.Range(0, 12).Select(static i => new JsonObject { ["prompt"] = $"count {i}", ["completion"] = $"one two {i}" }.ToJsonString());
        work.Write("pairs.jsonl", string.Join('\n', rows));
        Owt.Run(work.Root, 0, "init", "--hidden-size", "32", "--intermediate-size", "48", "--vocab-size", "280", "--tokenizer-data", "pairs.jsonl", "--output", "speaker");
        work.Write("pairs.yaml", """
            output_dir: pairs
            model: { path: speaker, device: cpu }
            data: { train: [ { path: pairs.jsonl } ], eval: [ { path: pairs.jsonl, limit: 3 } ] }
            training: { max_steps: 4, micro_batch_size: 4 }
            evaluation: { every_steps: 2, generate_rows: 3, samples: 2, max_new_tokens: 4 }
            """);
        Owt.Run(work.Root, 0, "train", "pairs.yaml");
        List<JsonNode> Lines(string file) => [.. File.ReadLines(work.At("pairs", file)).Select(static l => JsonNode.Parse(l)!)];
        var scores = Lines("metrics.jsonl").Where(static l => l["eval_answers"] is not null).ToList();
        Assert.That(scores.Select(static s => (s["when"]!.ToString(), s["eval_answers"]!.GetValue<int>())), Is.EqualTo(new[] { ("before training", 3), ("step 2", 2), ("after training", 3) }));
        Assert.That(scores.All(static s => s["eval_exact_match"] is not null && s["eval_chrf"] is not null && s["eval_bleu"] is not null));
        var samples = Lines("samples.jsonl");
        Assert.That(samples.Select(static s => s["when"]!.ToString()).Distinct(), Is.EqualTo(new[] { "before training", "step 2", "after training" }));
        Assert.That(samples[0]["expected"]!.ToString(), Does.Contain("one two 0"));
        Assert.That(File.ReadAllText(work.At("pairs", "report.html")), Does.Contain("one two 0"));

        var gone = Owt.Run(work.Root, 0, "train", "pairs.yaml", "training.max_steps=6", "--resume").Output;
        Assert.That(gone, Does.Contain("exactly right before training: 0 of 3").And.Not.Contain("before:   -"), "what the first part was asked is kept");
    }

    [Test]
    public void Going_on_with_a_finished_run_does_nothing_until_it_is_asked_for_more()
    {
        using var work = new Workspace();
        Owt.Run(work.Root, 0, "train", "train.yaml");
        Dictionary<string, DateTime> Files() => Directory.GetFiles(work.At("run"), "*", SearchOption.AllDirectories).ToDictionary(static f => f, File.GetLastWriteTimeUtc);
        var before = Files();
        Assert.That(Owt.Run(work.Root, 0, "train", "train.yaml", "--resume").Output, Does.Contain("finished after 12 steps").And.Contain("nothing was done").And.Contain("training.max_steps"));
        Assert.That(Owt.Run(work.Root, 0, "train", "train.yaml", "--resume", "--json").Json.Single()["last_step"]!.GetValue<int>(), Is.EqualTo(12));
        Assert.That(Owt.Run(work.Root, 0, "train", "train.yaml", "--resume", "training.max_steps=8").Output, Does.Contain("nothing was done"), "fewer steps than are done");
        Assert.That(
            Owt.Run(work.Root, 0, "train", "train.yaml", "--resume", "training.max_steps=", "training.epochs=0.5").Output, Does.Contain("finished after 12 steps").And.Contain("nothing was done"),
            "fewer steps than are done, by the rows");
        _ = Owt.Run(work.Root, 1, "train", "train.yaml", "--resume", "--overwrite");
        Assert.That(Files(), Is.EquivalentTo(before), "no file is written anew");
        Assert.That(Owt.Run(work.Root, 0, "train", "train.yaml", "--resume", "training.max_steps=14").Error, Does.Contain("step 14/14"));
        Directory.Delete(work.At("run", "adapter"), recursive: true);
        _ = Owt.Run(work.Root, 0, "train", "train.yaml", "--resume", "training.max_steps=14");
        Assert.That(File.Exists(work.At("run", "adapter", "adapter_model.safetensors")), "a result that is gone is written again");
    }

    [Test]
    public void A_base_model_is_not_changed_by_a_run()
    {
        using var work = new Workspace();
        var before = File.ReadAllBytes(work.At("model", "model.safetensors"));
        Owt.Run(work.Root, 0, "train", "train.yaml");
        Assert.That(File.ReadAllBytes(work.At("model", "model.safetensors")), Is.EqualTo(before));
    }

    [Test]
    public void Training_lowers_the_loss_that_evaluate_measures()
    {
        using var work = new Workspace("max_steps: 60, micro_batch_size: 6, warmup_steps: 2, learning_rate: 2.0e-2");
        Owt.Run(work.Root, 0, "train", "train.yaml");
        double Loss(params string[] more) => Owt.Run(work.Root, 0, ["evaluate", "--model", "model", "--data", "rows.jsonl", "--json", .. more]).Json[0]["loss"]!.GetValue<double>();
        Assert.That(Loss("--adapter", "run/adapter"), Is.LessThan(Loss() - 0.05));
    }
}
