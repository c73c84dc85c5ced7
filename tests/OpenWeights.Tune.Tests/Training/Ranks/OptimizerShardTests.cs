using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters.Kinds;
using OpenWeights.Tune.Configuration;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Training.Ranks;

/// <summary>Ranks that share out the optimizer's state (parallel.shard: optimizer) have the trajectory, the checkpoints and the result of one process.</summary>
[TestFixture]
public sealed class OptimizerShardTests
{
    private static readonly Dictionary<string, Func<RunConfig, RunConfig>> s_runs = new()
    {
        ["lora"] = static c => c,
        ["full"] = static c => c with { Adapter = null },
        ["full, clipped by value, checkpointed"] = static c => c with { Adapter = null, Training = c.Training with { MaxGradValue = 0.002, ActivationCheckpointing = "block" } },
        ["lion"] = static c => c with { Adapter = null, Training = c.Training with { Optimizer = "lion", LearningRate = 1e-4 } },
        ["sgd"] = static c => c with { Adapter = null, Training = c.Training with { Optimizer = "sgd", Momentum = 0.9 } },
        ["schedule-free"] = static c => c with { Training = c.Training with { Optimizer = "schedule_free_adamw" } },
        ["ema"] = static c => c with { Training = c.Training with { Ema = new EmaSection { Decay = 0.9 } } },
        ["adafactor"] = static c => c with { Adapter = null, Training = c.Training with { Optimizer = "adafactor_torch", LearningRate = 1e-3 } },
        ["adalora"] = static c => c with { Adapter = new AdapterSection { Type = "adalora", Own = new AdaloraConfig { InitR = 4, TargetR = 2, Tinit = 2, Tfinal = 4, TotalStep = 20 } } },
        ["riemannian"] = static c => c with { Training = c.Training with { Optimizer = "riemannian_adamw", LearningRate = 1e-4 } },
    };

    public static IEnumerable<string> Runs => s_runs.Keys;

    [Test]
    public void Shared_state_gives_the_trajectory_and_the_files_of_one_process([ValueSource(nameof(Runs))] string name)
    {
        using var folder = new TemporaryFolder();
        var one = RankRun.Of(1, s_runs[name](Config(folder, "one")));
        foreach (var ranks in new[] { 2, 4 })
        {
            var several = RankRun.Of(ranks, s_runs[name](Config(folder, $"of{ranks}")));
            several.RequireSame(one);
            var (state, expected) = (Checkpoint(folder, $"of{ranks}"), Checkpoint(folder, "one"));
            Assert.That(state.Keys, Is.EqualTo(expected.Keys));
            foreach (var (key, values) in expected)
            {
                Assert.That(state[key], Has.Length.EqualTo(values.Length), key);
                Assert.That(state[key], Is.EqualTo(values).Within(1e-5), key);
            }
        }
    }

    [TestCase(2, 1)]
    [TestCase(1, 2)]
    [TestCase(2, 4)]
    public void A_checkpoint_of_shared_state_is_resumed_by_any_number_of_ranks(int before, int after)
    {
        using var folder = new TemporaryFolder();
        static RunConfig Full(RunConfig config) => config with { Adapter = null };
        var whole = RankRun.Of(1, Full(Config(folder, "whole")));
        var stopped = RankRun.Of(before, Full(Config(folder, "again")), stopAfter: 7, stoppedBy: before - 1);
        var resumed = RankRun.Of(after, Full(Config(folder, "again")), resume: true);
        (resumed with { Steps = [.. stopped.Steps, .. resumed.Steps] }).RequireSame(whole);
    }

    // Rounding grows in these, so that one process has other digits; but ranks that share out the state have the same gradients as ranks that do not.
    [TestCase("adamw", ScalarType.BFloat16)]
    [TestCase("adamw_8bit", ScalarType.Float32)]
    [TestCase("adamw_8bit", ScalarType.BFloat16)]
    [TestCase("muon", ScalarType.Float32)]
    public void Shared_state_gives_the_bits_of_whole_state(string optimizer, ScalarType dtype)
    {
        using var folder = new TemporaryFolder();
        _ = TinyModel.Write(folder, dtype: dtype);
        RunConfig Run(string name, string shard) => Config(folder, name) is var config ? config with { Adapter = null, Parallel = new ParallelSection { Shard = shard, BucketMib = 0.005 }, Training = config.Training with { Optimizer = optimizer, Min8bitSize = 1024, LearningRate = 1e-3 } } : config;
        var (all, parts) = (RankRun.Of(2, Run("all", "none")), RankRun.Of(2, Run("parts", "optimizer")));
        Assert.That(parts.Losses, Is.EqualTo(all.Losses));
        Assert.That(File.ReadAllBytes(folder.At("parts", "model", "model.safetensors")), Is.EqualTo(File.ReadAllBytes(folder.At("all", "model", "model.safetensors"))));
        Assert.That(Checkpoint(folder, "parts"), Is.EqualTo(Checkpoint(folder, "all")));
    }

    [TestCase("apollo_adamw", "master_weights", "random projections")]
    [TestCase("adamw", "stochastic_rounding", "draws a random number")]
    public void What_cannot_be_shared_out_is_refused(string optimizer, string precision, string reason)
    {
        using var folder = new TemporaryFolder();
        var config = Config(folder, "refused") with { Adapter = null, Training = new TrainingSection { MaxSteps = 2, Optimizer = optimizer, LowPrecision = precision } };
        Assert.That(Assert.Throws<AggregateException>(() => RankRun.Of(2, config))!.InnerExceptions, Has.All.TypeOf<ConfigException>().With.Message.Contains(reason));
    }

    private static RunConfig Config(TemporaryFolder folder, string name) => RankRun.Config(folder, name, rows: 27) with { Parallel = new ParallelSection { Shard = "optimizer", BucketMib = 0.02 } };

    private static Dictionary<string, double[]> Checkpoint(TemporaryFolder folder, string run) => RankRun.Tensors(folder.At(run, "checkpoints", "step-00000020", "optimizer.safetensors"));
}
