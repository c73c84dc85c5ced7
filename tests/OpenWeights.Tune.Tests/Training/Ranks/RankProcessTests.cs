using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Tests.Distributed.Processes;

namespace OpenWeights.Tune.Tests.Training.Ranks;

/// <summary>Runs of ranks that are processes, between which MPI moves the sums. Each has random numbers of its own, so that dropout can be compared.</summary>
[TestFixture]
public sealed class RankProcessTests
{
    private static readonly Dictionary<string, Func<RunConfig, RunConfig>> s_runs = new()
    {
        ["lora with dropout and noise"] = static c => c with { Adapter = c.Adapter! with { LoraDropout = 0.2 }, Training = c.Training with { NeftuneNoiseAlpha = 5 } },
        ["the same, checkpointed"] = static c => c with { Adapter = c.Adapter! with { LoraDropout = 0.2 }, Training = c.Training with { NeftuneNoiseAlpha = 5, ActivationCheckpointing = "block" } },
        ["full, weights shared out, averaged"] = static c => c with { Adapter = null, Parallel = c.Parallel with { Shard = "parameters" }, Training = c.Training with { ActivationCheckpointing = "block", Ema = new EmaSection { Decay = 0.9 } } },
        ["full, shared out"] = static c => c with { Adapter = null, Parallel = c.Parallel with { Shard = "optimizer" } },
    };

    public static IEnumerable<string> Runs => s_runs.Keys;

    [Test]
    public void Processes_have_the_trajectory_of_one([ValueSource(nameof(Runs))] string name)
    {
        using var folder = new TemporaryFolder();
        var one = RankRun.Of(1, s_runs[name](RankRun.Config(folder, "one", rows: 27)));
        foreach (var (mpi, ranks) in new[] { ("openmpi", 2), ("mpich", 4) })
        {
            var config = s_runs[name](RankRun.Config(folder, $"{mpi}{ranks}", rows: 27));
            Assert.That(Train(folder, mpi, ranks, config), Does.Contain($"rank {ranks - 1}: trained"));
            RequireSame(config.OutputDir, one);
        }
    }

    [Test]
    public void Processes_that_one_of_them_stops_go_on_as_another_number()
    {
        using var folder = new TemporaryFolder();
        RunConfig Config(string name) => RankRun.Config(folder, name, rows: 27) is var c ? c with { Adapter = c.Adapter! with { LoraDropout = 0.2 } } : c;
        var whole = RankRun.Of(1, Config("whole"));
        Assert.That(Train(folder, "openmpi", 2, Config("again"), (RankTraining.StopVariable, "7")), Does.Contain("rank 0: stopped").And.Contain("rank 1: stopped"));
        Assert.That(Train(folder, "openmpi", 4, Config("again"), (RankTraining.ResumeVariable, "1")), Does.Contain("rank 3: trained"));
        RequireSame(Config("again").OutputDir, whole);
    }

    private static string Train(TemporaryFolder folder, string mpi, int ranks, RunConfig config, params (string Name, string Value)[] variables)
    {
        var divided = config with { Training = config.Training with { GradientAccumulationSteps = RankRun.MicroBatches / ranks } };
        var yaml = folder.Write($"{Path.GetFileName(config.OutputDir)}-{ranks}.yaml", ConfigWriter.Write(divided));
        return RankProcesses.Run(mpi, ranks, "train", [(RankTraining.ConfigVariable, yaml), .. variables]);
    }

    private static void RequireSame(string run, RankRun one)
    {
        var lines = File.ReadLines(Path.Combine(run, "metrics.jsonl")).Select(static l => JsonNode.Parse(l)!).ToList();
        Assert.That(lines.Select(static l => l["loss"]!.GetValue<double>()), Is.EqualTo(one.Losses).Within(1e-3).Percent);
        Assert.That(lines.Select(static l => l["grad_norm"]!.GetValue<double>()), Is.EqualTo(one.Norms).Within(2e-3).Percent);
        var result = Directory.EnumerateFiles(run, "*.safetensors", SearchOption.AllDirectories).Single(static f => Path.GetFileName(Path.GetDirectoryName(f)) is "adapter" or "model");
        var weights = RankRun.Tensors(result);
        foreach (var (name, values) in one.Weights())
        {
            Assert.That(weights[name], Is.EqualTo(values).Within(1e-5), name);
        }
    }
}
