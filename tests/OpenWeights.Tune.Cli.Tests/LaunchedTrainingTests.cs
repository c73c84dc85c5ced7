using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>owt launch ... train: what two ranks write is what one process writes, however weights, gradients and state are shared out.</summary>
public sealed class LaunchedTrainingTests
{
    private static readonly string s_quickstart = Path.Combine(SharedFiles.Root, "datasets", "quickstart");

    [OneTimeSetUp]
    public void NeedMpi()
    {
        if (!Environment.GetEnvironmentVariable("PATH")!.Split(Path.PathSeparator).Any(static f => File.Exists(Path.Combine(f, "mpirun"))))
        {
            Assert.Ignore("mpirun is not installed (scripts/test installs openmpi-bin where it may)");
        }
    }

    [TestCase("", "model/model.safetensors")]
    [TestCase("adapter: { r: 4 }\n", "adapter/adapter_model.safetensors")]
    [TestCase("adapter: { r: 4 }\nquantization: { type: nf4 }\n", "adapter/adapter_model.safetensors")]
    public void Two_ranks_write_the_same_file_however_they_share(string sections, string result)
    {
        using var work = Work(sections);
        byte[] ByRanks(string shard)
        {
            Owt.Run(work.Root, 0, "launch", "--ranks", "2", "--", "train", "train.yaml", $"output_dir={shard}", $"parallel.shard={shard}", "training.activation_checkpointing=block");
            return File.ReadAllBytes(work.At(shard, result));
        }

        var expected = ByRanks("none");
        Assert.That(ByRanks("parameters"), Is.EqualTo(expected), "a layer's weights are the same, whoever keeps them");
        if (sections.Length == 0)
        {
            Assert.That(ByRanks("gradients"), Is.EqualTo(expected));
            Assert.That(ByRanks("optimizer"), Is.EqualTo(expected));
        }
    }

    [Test]
    public void One_process_continues_what_two_ranks_began_with_the_losses_of_one()
    {
        using var work = Work("");
        Owt.Run(work.Root, 0, "train", "train.yaml", "output_dir=one", "training.micro_batch_size=4", "training.max_steps=6");
        Owt.Run(work.Root, 0, "launch", "--ranks", "2", "--", "train", "train.yaml", "output_dir=two", "parallel.shard=parameters", "training.max_steps=6");
        var (one, two) = (Losses(work.At("one", "metrics.jsonl")), Losses(work.At("two", "metrics.jsonl")));
        Assert.That(two, Is.EqualTo(one).Within(1e-3).Percent);

        Owt.Run(work.Root, 0, "train", "train.yaml", "output_dir=one", "training.micro_batch_size=4", "training.max_steps=9", "--resume");
        Owt.Run(work.Root, 0, "train", "train.yaml", "output_dir=two", "training.max_steps=9", "--resume");
        Assert.That(Losses(work.At("two", "metrics.jsonl")), Has.Count.EqualTo(9).And.EqualTo(Losses(work.At("one", "metrics.jsonl"))).Within(1e-3).Percent);
    }

    private static TemporaryFolder Work(string sections)
    {
        var work = new TemporaryFolder();
        work.Write("train.yaml", $$"""
            output_dir: run
            model: { path: '{{Path.Combine(s_quickstart, "base")}}', dtype: float32, device: cpu }
            data: { train: '{{Path.Combine(s_quickstart, "train.jsonl")}}', packing: false }
            training: { max_steps: 4, micro_batch_size: 2, warmup_steps: 0, learning_rate: 1.0e-3 }
            checkpoint: { every_steps: 2 }
            {{sections}}
            """);
        return work;
    }

    private static List<double> Losses(string metrics) =>
        [.. File.ReadLines(metrics).Select(static l => System.Text.Json.Nodes.JsonNode.Parse(l)!).Where(static l => l["loss"] is not null).Select(static l => l["loss"]!.GetValue<double>())];
}
