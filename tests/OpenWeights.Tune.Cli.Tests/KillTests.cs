using System.Globalization;
using System.Text.Json.Nodes;
using NUnit.Framework;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>Runs that are killed with SIGKILL wherever they happen to be, and go on to the same end, bit for bit.</summary>
public sealed class KillTests
{
    private const string Settings = "max_steps: 240, micro_batch_size: 2, gradient_accumulation_steps: 2, warmup_steps: 2, learning_rate: 1.0e-3";

    private static readonly string[] s_result = ["adapter", "adapter_model.safetensors"];

    // LoRA with dropout; DoRA on a quantised base, packed; all weights, packed.
    private static readonly TestCaseData[] s_kinds =
    [
        new(4, s_result, Array.Empty<string>()),
        new(1, s_result, new[] { "adapter.use_dora=true", "quantization.block_size=32", "data.packing=true", "data.max_length=32", "training.max_steps=40" }),
        new(1, new[] { "model", "model.safetensors" }, new[] { "adapter=null", "data.packing=true", "data.max_length=32", "training.max_steps=40" }),
    ];

    [TestCaseSource(nameof(s_kinds))]
    public void A_run_that_is_killed_at_random_moments_comes_to_the_same_end(int few, string[] result, string[] settings)
    {
        // OWT_TEST_KILLS=50 for many; a few otherwise, since each takes a start of the program.
        var kills = int.Parse(Environment.GetEnvironmentVariable("OWT_TEST_KILLS") ?? $"{few}", CultureInfo.InvariantCulture);
        using var work = new Workspace(Settings);
        Owt.Run(work.Root, 0, ["train", "train.yaml", "output_dir=straight", .. settings]);
        var random = new Random(9);
        var seen = new SortedSet<long>();
        for (var i = 0; i < kills; i++)
        {
            // Half of them once a checkpoint was written, so that the run gets on; the others at any moment, of the start and of writing too.
            var killed = Owt.Start(work.Root, ["train", "train.yaml", "--resume", "checkpoint.every_steps=2", .. settings]);
            if (i % 2 == 0)
            {
                killed.WaitForEnd("checkpoint written");
                Thread.Sleep(random.Next(60));
            }
            else
            {
                Thread.Sleep(random.Next(2500));
            }

            killed.Kill();
            _ = killed.WaitForExit();
            Assert.That(killed.Error, Does.Not.Contain("error"));
            seen.UnionWith(Directory.Exists(work.At("run", "checkpoints")) ? Directory.GetDirectories(work.At("run", "checkpoints"), "step-*").Select(static d => long.Parse(d[^8..], CultureInfo.InvariantCulture)) : []);
        }

        TestContext.Out.WriteLine($"{kills} kills, checkpoints seen after them at steps {string.Join(", ", seen)}");
        Owt.Run(work.Root, 0, ["train", "train.yaml", "--resume", "checkpoint.every_steps=2", .. settings]);
        Assert.That(File.ReadAllBytes(work.At(["run", .. result])), Is.EqualTo(File.ReadAllBytes(work.At(["straight", .. result]))));
        Assert.That(Numbers(work.At("run", "metrics.jsonl")), Is.EqualTo(Numbers(work.At("straight", "metrics.jsonl"))));
        Assert.That(Directory.GetFileSystemEntries(work.At("run"), ".*.tmp*", SearchOption.AllDirectories), Is.Empty, "nothing half-written stays");
    }

    [Test]
    public void A_damaged_newest_checkpoint_is_named_and_the_one_before_is_used()
    {
        using var work = new Workspace();
        Owt.Run(work.Root, 0, "train", "train.yaml");
        Directory.Delete(work.At("run", "adapter"), recursive: true);
        var file = work.At("run", "checkpoints", "step-00000012", "optimizer.safetensors");
        File.WriteAllBytes(file, File.ReadAllBytes(file)[..^7]);
        var owt = Owt.Run(work.Root, 0, "train", "train.yaml", "--resume");
        Assert.That(owt.Error, Does.Contain("step-00000012 is damaged").And.Contain("optimizer.safetensors").And.Contain("of which 8 are done"));
        Assert.That(Numbers(work.At("run", "metrics.jsonl")), Has.Count.EqualTo(12));
    }

    [Test]
    public void Settings_that_differ_on_resume_are_all_listed_and_nothing_is_lost()
    {
        using var work = new Workspace();
        Owt.Run(work.Root, 0, "train", "train.yaml");
        var before = Numbers(work.At("run", "metrics.jsonl"));
        var owt = Owt.Run(work.Root, 1, "train", "train.yaml", "--resume", "training.learning_rate=0.5", "training.optimizer=lion", "seed=4", "checkpoint.keep=1");
        Assert.That(owt.Error, Does.Contain("training.learning_rate").And.Contain("training.optimizer").And.Contain("seed").And.Contain("lion now"));
        Assert.That(owt.Error, Does.Not.Contain("checkpoint.keep"), "what does not change the run may differ");
        Assert.That(Numbers(work.At("run", "metrics.jsonl")), Is.EqualTo(before));
        Assert.That(Owt.Run(work.Root, 0, "train", "train.yaml", "--resume", "training.max_steps=16").Error, Does.Contain("training.max_steps").And.Contain("16 now"));
    }

    // What a run computes, without what time and memory it took.
    private static List<string> Numbers(string path) =>
    [
        .. File.ReadLines(path).Select(static line =>
        {
            var json = JsonNode.Parse(line)!.AsObject();
            new[] { "seconds", "tokens_per_second", "peak_memory_bytes" }.ToList().ForEach(k => json.Remove(k));
            return json.ToJsonString();
        }),
    ];
}
