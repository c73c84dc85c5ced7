using System.Diagnostics;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>A run's folder, and a checkpoint of it, wherever an adapter or a model is wanted; texts that are too long for a model.</summary>
public sealed class RunPlaceTests
{
    [Test]
    public void A_runs_folder_and_a_checkpoint_work_as_adapter_and_as_model()
    {
        using var work = new Workspace();
        Owt.Run(work.Root, 0, "train", "train.yaml");
        File.WriteAllText(work.At("input.jsonl"), "{\"input_ids\": [1, 50, 7, 200, 31]}\n");
        double Score(params string[] model) => Owt.Run(work.Root, 0, ["score", .. model, "--input", "input.jsonl", "--device", "cpu"]).Json[0]["sum_logprob"]!.GetValue<double>();
        var expected = Score("--model", "model", "--adapter", "run/adapter");
        Assert.That(Score("--model", "model"), Is.Not.EqualTo(expected).Within(1e-6));
        Assert.That(Score("--model", "model", "--adapter", "run"), Is.EqualTo(expected));
        Assert.That(Score("--model", "run"), Is.EqualTo(expected));
        Assert.That(Score("--model", "model", "--adapter", "run/checkpoints/step-00000012"), Is.EqualTo(expected));
        Assert.That(Score("--model", "run/checkpoints/step-00000012"), Is.EqualTo(expected));
        Assert.That(Score("--model", "run/adapter"), Is.EqualTo(expected), "a run's adapter knows its base by the run");
        Assert.That(Score("--model", "run/checkpoints/step-00000012/weights"), Is.EqualTo(expected));
        Directory.CreateDirectory(work.At("away"));
        foreach (var file in Directory.EnumerateFiles(work.At("run", "adapter")))
        {
            File.Copy(file, work.At("away", Path.GetFileName(file)));
        }

        Assert.That(Owt.Run(work.Root, 2, "score", "--model", "away", "--input", "input.jsonl").Error, Does.Contain("away is an adapter; give its base as the model and it as the adapter"));
        Assert.That(Owt.Run(work.Root, 2, "score", "--model", "away/../rum", "--input", "input.jsonl").Error, Does.Contain("Did you mean away/../run?"));
        Assert.That(Owt.Run(work.Root, 1, "train", "run").Error, Does.Contain("this is a folder; a YAML file is expected, such as run/config.yaml."));
        Assert.That(Score("--model", "model", "--adapter", "run=0.5"), Is.Not.EqualTo(expected).Within(1e-6));
        Owt.Run(work.Root, 0, "export", "--format", "merged", "--model", "run", "--output", "merged");
        Owt.Run(work.Root, 0, "export", "--format", "gguf-lora", "--model", "run", "--output", "new/folder/lora.gguf", "--data-rows", "0");
        Assert.That(work.At("new", "folder", "lora.gguf"), Does.Exist);
        Assert.That(Score("--model", "merged"), Is.EqualTo(expected).Within(1e-3));
        Assert.That(Owt.Run(work.Root, 0, "inspect", "run/checkpoints/step-00000012").Output, Does.Contain("adapter"));
        work.Write("more.yaml", "output_dir: more\nmodel: { path: model, device: cpu }\nadapter: { path: run/checkpoints/step-00000012 }\ndata: { train: rows.jsonl, packing: false }\ntraining: { max_steps: 1, warmup_steps: 0 }\n");
        Owt.Run(work.Root, 0, "train", "more.yaml");
    }

    [Test]
    public void A_full_run_and_its_checkpoint_are_models()
    {
        using var work = new Workspace("max_steps: 4, micro_batch_size: 2, warmup_steps: 0, learning_rate: 1.0e-2");
        work.Write("full.yaml", File.ReadAllText(work.At("train.yaml")).Replace("adapter: { r: 4, lora_alpha: 8, lora_dropout: 0.1 }\n", "", StringComparison.Ordinal));
        Owt.Run(work.Root, 0, "train", "full.yaml");
        File.WriteAllText(work.At("input.jsonl"), "{\"input_ids\": [1, 50, 7, 200, 31]}\n");
        string Score(string model) => Owt.Run(work.Root, 0, "score", "--model", model, "--input", "input.jsonl", "--device", "cpu").Output;
        Assert.That(Score("run"), Is.EqualTo(Score("run/model")));
        Assert.That(Score("run/checkpoints/step-00000004"), Is.EqualTo(Score("run/model")));
    }

    [Test]
    public void A_path_that_is_not_there_is_told_without_asking_the_Hub()
    {
        using var folder = new TemporaryFolder();
        var watch = Stopwatch.StartNew();
        var error = Owt.Run(folder.Root, 2, "generate", "--model", "runs/mine", "--prompt", "x").Error;
        Assert.That(error, Does.Contain("runs/mine: no such folder or file"));
        Assert.That(watch.Elapsed, Is.LessThan(TimeSpan.FromSeconds(12)));
    }

    [Test]
    public void Rows_that_the_model_has_no_room_for_are_refused_by_training_and_evaluation_in_words_of_their_own()
    {
        using var work = new Workspace();
        work.Write("long.jsonl", $"{{\"input_ids\": [{string.Join(", ", Enumerable.Repeat(5, 600))}]}}\n");
        var train = Owt.Run(work.Root, 2, "train", "train.yaml", "--dry-run", "data.train=long.jsonl").Error;
        Assert.That(train, Does.Contain("longer than the model's context (512 tokens").And.Contains("data.over_length"));
        Assert.That(Owt.Run(work.Root, 0, "train", "train.yaml", "--dry-run", "data.train=long.jsonl", "data.over_length=truncate").Output, Does.Contain("cut to 512 tokens"));
        Assert.That(Owt.Run(work.Root, 2, "validate", "train.yaml", "data.train=long.jsonl").Error, Does.Contain("longer than the model's context"));
        var evaluate = Owt.Run(work.Root, 2, "evaluate", "--model", "model", "--data", "long.jsonl").Error;
        Assert.That(evaluate, Does.Contain("longer than the model's context (512 tokens").And.Contains("--over-length").And.Contains("--max-positions").And.Not.Contains("data."));
        Assert.That(Owt.Run(work.Root, 0, "evaluate", "--model", "model", "--data", "long.jsonl", "--over-length", "truncate", "--json").Json[0]["tokens"]!.GetValue<int>(), Is.EqualTo(512));
        Assert.That(Owt.Run(work.Root, 0, "evaluate", "--model", "model", "--data", "long.jsonl", "--max-positions", "1024", "--json").Json[0]["tokens"]!.GetValue<int>(), Is.EqualTo(600));
        Assert.That(Owt.Run(work.Root, 2, "evaluate", "--model", "model", "--data", "rows.jsonl", "--max-length", "3").Error, Does.Contain("longer than --max-length (3 tokens)").And.Contains("Raise --max-length"));
        Assert.That(Owt.Run(work.Root, 0, "score", "--model", "model", "--input", "long.jsonl").Error, Does.Contain("exceed the model's context of 512"));
    }

    [Test]
    public void Generation_stops_at_the_models_limit_and_says_so()
    {
        using var folder = new TemporaryFolder();
        folder.Write("texts.jsonl", "{\"text\": \"one two three\"}\n");
        Owt.Run(folder.Root, 0, "init", "--hidden-size", "32", "--layers", "1", "--vocab-size", "270", "--max-positions", "24", "--tokenizer-data", "texts.jsonl", "--output", "tiny");
        var owt = Owt.Run(folder.Root, 0, "generate", "--model", "tiny", "--prompt", "one two", "--max-new-tokens", "2000", "--json");
        Assert.That(owt.Json[0]["input_ids"]!.AsArray().Count + owt.Json[0]["output_ids"]!.AsArray().Count, Is.LessThanOrEqualTo(24));
        if (owt.Json[0]["finish_reason"]!.ToString() == "length")
        {
            Assert.That(owt.Error, Does.Contain("context of 24 tokens").And.Contains("max_position_embeddings"));
        }
    }
}
