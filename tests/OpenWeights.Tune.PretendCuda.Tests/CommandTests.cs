using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Tune.Cli.Tests;

namespace OpenWeights.Tune.PretendCuda.Tests;

/// <summary>The program itself on the device, as a process of its own that has the device loaded into it.</summary>
public sealed class CommandTests
{
    // LD_PRELOAD knows no way to write a space, which the folder of the tests may have in its name.
    private readonly string _here = Path.Combine(Path.GetTempPath(), $"owt-pretend-cuda-{Environment.ProcessId}");
    private Workspace _work = null!;

    [OneTimeSetUp]
    public void Make()
    {
        _work = new Workspace("max_steps: 8, micro_batch_size: 2, warmup_steps: 1, learning_rate: 1.0e-2", dropout: "0.0");

        // First what the program itself loads ahead of libtorch: BLAS, and what stands in for libraries that nothing is taken from.
        var blas = Directory.GetDirectories("/usr/lib", "*-linux-gnu").Select(static d => Path.Combine(d, "openblas-openmp", "libopenblas.so.0")).Where(File.Exists);
        _ = Directory.CreateSymbolicLink(_here, Path.TrimEndingDirectorySeparator(AppContext.BaseDirectory));
        var standIns = Path.Combine(_here, "libOpenWeightsTorch.so.unused");
        Environment.SetEnvironmentVariable("LD_PRELOAD", string.Join(' ', [.. blas, .. Directory.Exists(standIns) ? Directory.GetFiles(standIns) : [], Path.Combine(_here, Path.GetFileName(PretendDevice.Path))]));
        Train("gpu", "model.device=cuda");
    }

    [OneTimeTearDown]
    public void Remove()
    {
        Environment.SetEnvironmentVariable("LD_PRELOAD", null);
        Directory.Delete(_here);
        _work?.Dispose();
    }

    [Test]
    public void Doctor_counts_the_gpu() => Assert.That(Owt.Run(_work.Root, 0, "doctor").Output, Does.Match(@"GPUs\s+1\b").And.Contain("on cuda:0").And.Contain("Pretend GPU, compute capability 8.0"));

    [Test]
    public void A_run_on_the_gpu_learns_what_a_run_on_the_cpu_does()
    {
        Train("cpu", "model.device=cpu");
        Assert.That(Losses("gpu"), Is.EqualTo(Losses("cpu")).Within(1e-5));
    }

    [Test]
    public void Automatic_choice_takes_the_gpu_and_a_second_one_is_not_there()
    {
        Assert.That(Owt.Run(_work.Root, 0, "train", "train.yaml", "model.device=auto", "output_dir=auto", "training.max_steps=1").Error, Does.Contain("cuda"));
        Assert.That(Owt.Run(_work.Root, 1, "train", "train.yaml", "model.device=cuda:1", "output_dir=second").Error, Does.Contain("torch finds 1 GPU"));
    }

    [Test]
    public void Evaluation_tells_what_scores_add_up_to_and_a_merged_model_is_checked()
    {
        _ = _work.Write("eval.jsonl", """{"input_ids": [5, 6, 7, 8, 9, 10]}""" + "\n" + """{"input_ids": [9, 8, 7]}""");
        string[] model = ["--model", "model", "--adapter", "gpu/adapter", "--device", "cuda"];
        var scores = Owt.Run(_work.Root, 0, ["score", .. model, "--input", "eval.jsonl"]).Json.Sum(static l => l["sum_logprob"]!.GetValue<double>());
        var evaluation = Owt.Run(_work.Root, 0, ["evaluate", .. model, "--data", "eval.jsonl", "--json"]).Json[0];
        Assert.That(evaluation["loss"]!.GetValue<double>(), Is.EqualTo(-scores / (5 + 2)).Within(1e-5));

        // It compares the logits of what it wrote.
        _ = Owt.Run(_work.Root, 0, ["export", "--format", "merged", .. model, "--output", "merged"]);
    }

    [Test]
    public void It_is_measured_as_the_cpu_is()
    {
        string[] shape = ["--hidden-size", "32", "--layers", "2", "--heads", "4", "--kv-heads", "2", "--intermediate-size", "48", "--vocab-size", "300", "--device", "cuda"];
        var training = Owt.Run(_work.Root, 0, ["bench", "train", .. shape, "--seq-len", "32", "--batch-size", "2", "--mode", "lora", "--rank", "4", "--dtype", "bfloat16", "--checkpointing", "--steps", "2"]).Json[0];
        Assert.That(training["loss"]!.GetValue<double>(), Is.EqualTo(Math.Log(300)).Within(1));
        var generating = Owt.Run(_work.Root, 0, ["bench", "generate", .. shape, "--prompt-len", "16", "--new-tokens", "4", "--batch-size", "2"]).Json[0];
        Assert.That(generating, Is.Not.Null);
    }

    [Test]
    public void Too_little_memory_is_one_sentence_that_says_what_to_do()
    {
        // The weights fit and a step does not.
        Environment.SetEnvironmentVariable("OWT_PRETEND_CUDA_MEMORY", $"{(256 << 10) + (128 << 10)}");
        try
        {
            string[] run = ["train", "train.yaml", "model.device=cuda", "output_dir=small", "training.micro_batch_size=16"];
            Assert.That(Owt.Run(_work.Root, 1, run).Error, Does.Match("error: .*the memory of cuda:0 .*fits: training.micro_batch_size="), "before anything is lost");
            var error = Owt.Run(_work.Root, 3, [.. run, "--force"]).Error;
            Assert.That(error.Split('\n'), Has.Exactly(1).StartWith("error: ").And.Exactly(1).StartWith("error: CUDA out of memory").And.Exactly(1).Contains("training.micro_batch_size"), error);
        }
        finally
        {
            Environment.SetEnvironmentVariable("OWT_PRETEND_CUDA_MEMORY", null);
        }
    }

    private void Train(string output, string device) => Owt.Run(_work.Root, 0, "train", "train.yaml", device, $"output_dir={output}");

    private double[] Losses(string run) =>
        [.. File.ReadAllLines(_work.At(run, "metrics.jsonl")).Select(static l => JsonNode.Parse(l)!.AsObject()).Where(static o => o["loss"] is not null)
            .SelectMany(static o => new[] { o["loss"]!.GetValue<double>(), o["grad_norm"]!.GetValue<double>() })];
}
