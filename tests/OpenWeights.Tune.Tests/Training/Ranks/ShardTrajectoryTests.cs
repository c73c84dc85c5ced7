using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters.Kinds;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Tests.Models.Families;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Training.Ranks;

/// <summary>A run is the same whatever its ranks share out.</summary>
[TestFixture]
public sealed class ShardTrajectoryTests
{
    private static readonly Dictionary<string, Func<RunConfig, RunConfig>> s_runs = new()
    {
        ["lora"] = static c => c,
        ["full"] = static c => c with { Adapter = null },
        ["full, untied, clipped by value"] = static c => c with { Adapter = null, Training = c.Training with { MaxGradValue = 0.002 } },
        ["full, 8-bit state"] = static c => c with { Adapter = null, Training = c.Training with { Optimizer = "adamw_8bit", Min8bitSize = 1024 } },
        ["full, lion"] = static c => c with { Adapter = null, Training = c.Training with { Optimizer = "lion", LearningRate = 1e-4 } },
        ["dora"] = static c => c with { Adapter = c.Adapter! with { UseDora = true } },
        ["qlora"] = static c => c with { Quantization = new QuantizationSection() },
        ["int8 base, modules to save"] = static c => c with { Quantization = new QuantizationSection { Type = "int8" }, Adapter = c.Adapter! with { ModulesToSave = ["lm_head"] } },
        ["full, ema"] = static c => c with { Adapter = null, Training = c.Training with { Ema = new EmaSection { Decay = 0.9 } } },
        ["ema beside the last weights"] = static c => c with { Training = c.Training with { Ema = new EmaSection { Decay = 0.9, Result = "last" } } },
        ["full, schedule-free"] = static c => c with { Adapter = null, Training = c.Training with { Optimizer = "schedule_free_adamw", LearningRate = 1e-3 } },
        ["embedding and head saved whole, untied"] = static c => c with { Adapter = c.Adapter! with { ModulesToSave = ["embed_tokens", "lm_head"] } },
        ["lora on the embedding and the untied head"] = static c => c with { Adapter = c.Adapter! with { TargetModules = new TextOrList(["q_proj", "embed_tokens", "lm_head"], IsList: true) } },
        ["dora on the embedding"] = static c => c with { Adapter = c.Adapter! with { UseDora = true, TargetModules = new TextOrList(["embed_tokens"], IsList: true) } },
        ["rows of tokens"] = static c => c with { Adapter = c.Adapter! with { TrainableTokenIndices = new Dictionary<string, IReadOnlyList<int>> { ["embed_tokens"] = [3, 17, 95] } } },
        ["a larger vocabulary, untied"] = static c => c with { Adapter = c.Adapter! with { VocabSize = 128, ModulesToSave = ["embed_tokens", "lm_head"] } },
        ["virtual tokens that start as rows"] = static c => c with { Adapter = new AdapterSection { Type = "prompt_tuning", Own = new PromptTuningConfig { NumVirtualTokens = 3, PromptTuningInit = "SAMPLE_VOCAB" } } },
        ["label smoothing, untied"] = static c => c with { Adapter = null, Objective = c.Objective with { LabelSmoothing = 0.1 } },
        ["adalora"] = static c => c with { Adapter = new AdapterSection { Type = "adalora", Own = new AdaloraConfig { InitR = 4, TargetR = 2, Tinit = 2, Tfinal = 4, TotalStep = 20 } } },
        ["full, sgd without state"] = static c => c with { Adapter = null, Training = c.Training with { Optimizer = "sgd", Momentum = 0, LearningRate = 1e-2 } },
        ["packed"] = static c => c with { Data = c.Data with { Packing = true, MaxLength = 40 } },
    };

    public static IEnumerable<string> Runs => s_runs.Keys;

    [Test]
    public void Ranks_with_parts_have_the_trajectory_of_one_process([ValueSource(nameof(Runs))] string name, [Values("gradients", "parameters")] string shard)
    {
        using var folder = new TemporaryFolder();
        if (name.Contains("untied", StringComparison.Ordinal))
        {
            _ = TinyModel.Write(folder, tied: false);
        }

        // 27 rows are three steps of eight and one of three, in two micro-batches: two of four ranks have none.
        var one = RankRun.Of(1, Checkpointed(s_runs[name](RankRun.Config(folder, "one", rows: 27))));
        foreach (var ranks in new[] { 2, 4 })
        {
            var shared = RankRun.Of(ranks, Shared(s_runs[name](RankRun.Config(folder, $"of{ranks}", rows: 27)), shard));
            Same(shared, one, Tolerance(name));
        }
    }

    [TestCase("adafactor")]
    [TestCase("adafactor_torch")]
    [TestCase("lora_fa")]
    [TestCase("riemannian_adamw")]
    [TestCase("kasa")]
    [TestCase("adafactor_torch with averages")]
    public void Ranks_with_whole_matrices_have_the_trajectory_and_the_checkpoint_of_one_process(string optimizer)
    {
        using var folder = new TemporaryFolder();
        RunConfig Config(string name) => Checkpointed(RankRun.Config(folder, name, rows: 27)) is var c ? c with
        {
            Adapter = optimizer is "lora_fa" or "riemannian_adamw" ? c.Adapter : optimizer == "kasa" ? c.Adapter! with { KasaConfig = new KasaSection { Penalize = true } } : null,
            Training = c.Training with
            {
                Optimizer = optimizer == "kasa" ? "adamw" : optimizer.Split(' ')[0],
                LearningRate = optimizer is "riemannian_adamw" ? 1e-4 : 1e-3,
                Ema = optimizer.EndsWith("averages", StringComparison.Ordinal) ? new EmaSection { Decay = 0.9 } : null,
            },
        } : c;
        var one = RankRun.Of(1, Config("one"));
        foreach (var ranks in new[] { 2, 4 })
        {
            var several = RankRun.Of(ranks, Config($"of{ranks}") with { Parallel = new ParallelSection { Shard = "gradients" } });
            several.RequireSame(one);
            foreach (var file in Directory.EnumerateFiles(Directory.EnumerateDirectories(folder.At("one", "checkpoints")).Order(StringComparer.Ordinal).Last(), "*.safetensors"))
            {
                var (state, expected) = (RankRun.Tensors(file.Replace(folder.At("one"), folder.At($"of{ranks}"), StringComparison.Ordinal)), RankRun.Tensors(file));
                Assert.That(state.Keys, Is.EqualTo(expected.Keys));
                foreach (var (key, values) in expected)
                {
                    Assert.That(state[key], Is.EqualTo(values).Within(1e-5), key);
                }
            }
        }
    }

    [TestCase(2, 1)]
    [TestCase(1, 2)]
    [TestCase(2, 4)]
    public void A_checkpoint_of_whole_matrices_is_resumed_by_any_number_of_ranks(int before, int after)
    {
        using var folder = new TemporaryFolder();
        RunConfig Config(string name) => Shared(RankRun.Config(folder, name, rows: 27), "gradients") is var c ? c with { Adapter = null, Training = c.Training with { Optimizer = "adafactor_torch", LearningRate = 1e-3 } } : c;
        var whole = RankRun.Of(1, Config("whole"));
        var stopped = RankRun.Of(before, Config("again"), stopAfter: 7, stoppedBy: before - 1);
        var resumed = RankRun.Of(after, Config("again"), resume: true);
        (resumed with { Steps = [.. stopped.Steps, .. resumed.Steps] }).RequireSame(whole);
    }

    // Each of four ranks has one micro-batch, so that gradients are added in one order.
    [TestCase("adamw", ScalarType.Float32)]
    [TestCase("adamw_8bit", ScalarType.Float32)]
    [TestCase("adamw_8bit", ScalarType.BFloat16)]
    [TestCase("lion_8bit", ScalarType.Float32)]
    [TestCase("ademamix_8bit", ScalarType.Float32)]
    [TestCase("muon", ScalarType.Float32)]
    [TestCase("galore_adamw", ScalarType.Float32)]
    public void Parts_give_the_bits_of_whole_state(string optimizer, ScalarType dtype)
    {
        using var folder = new TemporaryFolder();
        _ = TinyModel.Write(folder, dtype: dtype);
        RunConfig Run(string shard) => RankRun.Config(folder, shard) is var c ? c with
        {
            Adapter = null,
            Training = c.Training with { Optimizer = optimizer, Min8bitSize = 1024, LearningRate = 1e-3, MaxGradNorm = 0, ActivationCheckpointing = "block" },
            Parallel = c.Parallel with { Shard = shard },
        } : c;
        var all = RankRun.Of(4, Run("none"));
        foreach (var shard in optimizer is "muon" or "galore_adamw" ? ["gradients"] : new[] { "gradients", "parameters" })
        {
            var parts = RankRun.Of(4, Run(shard));
            Assert.That(parts.Losses, Is.EqualTo(all.Losses));
            Assert.That(parts.Weights(), Is.EqualTo(all.Weights()));
            Assert.That(RankRun.Tensors(Checkpoint(folder, shard)), Is.EqualTo(RankRun.Tensors(Checkpoint(folder, "none"))));
        }
    }

    // Per-layer embeddings and streams; experts; an embedding that the final norm normalizes.
    [Test]
    public void Other_families_have_the_trajectory_of_one_process([Values("gemma3n_text", "gemma4_text_moe", "nanochat")] string family, [Values] bool adapter)
    {
        using var folder = new TemporaryFolder();
        var (path, random) = (FamilyCases.Write(folder, family), new Random(3));
        _ = folder.Write("few.jsonl", string.Concat(Enumerable.Range(0, 24).Select(_ => $$"""{"input_ids": [{{string.Join(',', Enumerable.Range(0, random.Next(4, 12)).Select(_ => random.Next(40)))}}]}""" + "\n")));
        RunConfig Config(string name) => Checkpointed(RankRun.Config(folder, name)) is var c ? c with
        {
            Model = c.Model with { Path = path, Dtype = "float32" },
            Adapter = adapter ? c.Adapter : null,
            Data = c.Data with { Train = [new DataSource { Path = folder.At("few.jsonl") }] },
            Training = c.Training with { MaxSteps = 6, LearningRate = 1e-3 },
        } : c;
        var one = RankRun.Of(1, Config("one"));
        Same(RankRun.Of(2, Shared(Config("of2"), "parameters")), one);
    }

    [Test]
    public void The_best_weights_are_those_of_one_process([Values("gradients", "parameters")] string shard, [Values] bool adapter, [Values] bool averaged)
    {
        using var folder = new TemporaryFolder();
        RunConfig Config(string name) => RankRun.Config(folder, name) is var c ? Checkpointed(c) with
        {
            Adapter = adapter ? c.Adapter! with { UseDora = true } : null,
            Data = c.Data with { Eval = [new DataSource { Path = TinyModel.WriteRows(folder, 11, "eval.jsonl", seed: 5) }] },
            Evaluation = new EvaluationSection { EverySteps = 4, KeepBest = true, GenerateRows = 0 },

            // Random rows are learned by heart, which the eval loss does not like.
            Training = c.Training with { LearningRate = 2e-2, ActivationCheckpointing = "block", Ema = averaged ? new EmaSection { Decay = 0.3 } : null },
        } : c;
        var (one, two) = (RankRun.Of(1, Config("one")), RankRun.Of(2, Shared(Config("of2"), shard)));
        var losses = one.Evaluations.Select(static e => e.Loss).ToList();
        Assert.That(losses.Min(), Is.LessThan(losses[^1]), "the best step is not the last");
        Assert.That(two.Evaluations.Select(static e => e.Loss), Is.EqualTo(losses).Within(1e-4));
        var (weights, expected) = (two.Weights(), one.Weights());
        Assert.That(weights.Keys, Is.EqualTo(expected.Keys));
        foreach (var (name, values) in expected)
        {
            Assert.That(weights[name], Is.EqualTo(values).Within(1e-4), name);
        }
    }

    [Test]
    public void Preferences_and_their_metrics_are_those_of_one_process([Values("dpo", "orpo")] string type, [Values("gradients", "parameters")] string shard, [Values] bool adapter)
    {
        using var folder = new TemporaryFolder();
        _ = folder.Write("pairs.jsonl", string.Concat(Enumerable.Range(0, 11).Select(static i => $$"""{"prompt_ids": [1, {{i}}, 4], "chosen_ids": [{{i + 3}}, 5, 7], "rejected_ids": [{{i + 9}}, 8]}""" + "\n")));
        RunConfig Config(string name)
        {
            var config = Checkpointed(RankRun.Config(folder, name));
            return config with
            {
                Adapter = adapter ? config.Adapter : null,
                Data = new DataSection { Train = [new DataSource { Path = folder.At("pairs.jsonl") }], Eval = [new DataSource { Path = folder.At("pairs.jsonl") }], Packing = false },
                Objective = config.Objective with { Type = type },
                Evaluation = new EvaluationSection { EverySteps = 5, GenerateRows = 0 },
                Training = config.Training with { MicroBatchSize = 1, MaxSteps = 10 },
            };
        }

        var (one, four) = (RankRun.Of(1, Config("one")), RankRun.Of(4, Shared(Config("of4"), shard)));
        Same(four, one);
        Assert.That(four.Evaluations.Select(static e => e.Loss), Is.EqualTo(one.Evaluations.Select(static e => e.Loss)).Within(1e-5));
        foreach (var (step, expected) in four.Steps.Zip(one.Steps))
        {
            Assert.That(step.Objective.Keys, Is.EquivalentTo(expected.Objective.Keys));
            foreach (var (key, value) in expected.Objective)
            {
                Assert.That(step.Objective[key], Is.EqualTo(value).Within(Math.Max(1e-5, 1e-4 * Math.Abs(value))), $"{key} of step {step.Step}");
            }
        }
    }

    [Test]
    public void A_stopped_run_goes_on_with_other_ranks_and_other_sharing([Values("full", "full, 8-bit state", "full, ema", "lora")] string name)
    {
        using var folder = new TemporaryFolder();
        var whole = RankRun.Of(1, Checkpointed(s_runs[name](RankRun.Config(folder, "whole", rows: 27))));
        foreach (var (before, first, after, second) in new[] { (4, "parameters", 2, "parameters"), (2, "parameters", 1, "none"), (1, "none", 4, "parameters"), (2, "gradients", 4, "parameters"), (2, "none", 4, "gradients") })
        {
            var output = $"{before}{first}{after}{second}";
            var stopped = RankRun.Of(before, Shared(s_runs[name](RankRun.Config(folder, output, rows: 27)), first), stopAfter: 7, stoppedBy: before - 1);
            Assert.That((stopped.Result, stopped.Steps.Count), Is.EqualTo(((string?)null, 7)));
            var resumed = RankRun.Of(after, Shared(s_runs[name](RankRun.Config(folder, output, rows: 27)), second), resume: true);
            Same(resumed with { Steps = [.. stopped.Steps, .. resumed.Steps] }, whole, Tolerance(name));
        }
    }

    [Test]
    public void A_checkpoint_has_the_averages_of_one_process([Values("gradients", "parameters")] string shard, [Values(2, 4)] int ranks)
    {
        using var folder = new TemporaryFolder();
        _ = RankRun.Of(1, Checkpointed(s_runs["full, ema"](RankRun.Config(folder, "one"))));
        _ = RankRun.Of(ranks, Shared(s_runs["full, ema"](RankRun.Config(folder, "parts")), shard));
        var (averages, expected) = (RankRun.Tensors(Checkpoint(folder, "parts", "average")), RankRun.Tensors(Checkpoint(folder, "one", "average")));
        Assert.That(averages.Keys, Is.EqualTo(expected.Keys));
        foreach (var (name, values) in expected)
        {
            Assert.That(averages[name], Is.EqualTo(values).Within(1e-5), name);
        }
    }

    [Test]
    public void Evaluations_of_ranks_with_parts_are_those_of_one()
    {
        using var folder = new TemporaryFolder();
        RunConfig Config(string name) => RankRun.Config(folder, name) with
        {
            Data = RankRun.Config(folder, name).Data with { Eval = [new DataSource { Path = TinyModel.WriteRows(folder, 11, "eval.jsonl", seed: 5) }] },
            Evaluation = new EvaluationSection { EverySteps = 4, GenerateRows = 0 },
            Adapter = null,
        };
        var (one, four) = (RankRun.Of(1, Checkpointed(Config("one"))), RankRun.Of(4, Shared(Config("of4"), "parameters")));
        Assert.That(four.Evaluations.Select(static e => e.Loss), Is.EqualTo(one.Evaluations.Select(static e => e.Loss)).Within(1e-5).Percent);
        Same(four, one);
    }

    [Test]
    public void Layers_are_recomputed_where_gradients_are_shared_out_and_the_run_says_so()
    {
        using var folder = new TemporaryFolder();
        var config = RankRun.Config(folder, "run") with { Parallel = new ParallelSection { Shard = "gradients" } };
        var run = RankRun.Of(2, config with { Training = config.Training with { MaxSteps = 1 } });
        Assert.That(run.Warnings, Has.Some.Contains("activation_checkpointing is block"));
    }

    [TestCase("training.optimizer", "muon", "parameters")]
    [TestCase("parallel.shard", "apollo_adamw", "gradients")]
    public void What_needs_whole_weights_is_refused(string setting, string optimizer, string shard)
    {
        using var folder = new TemporaryFolder();
        var config = Shared(RankRun.Config(folder, "run"), shard);
        Assert.That(
            () => RankRun.Of(2, config with { Adapter = null, Training = config.Training with { Optimizer = optimizer } }),
            Throws.Exception.With.InnerException.TypeOf<ConfigException>().With.InnerException.Message.Contains(setting));
    }

    private static string Checkpoint(TemporaryFolder folder, string run, string file = "optimizer") => folder.At(run, "checkpoints", "step-00000020", $"{file}.safetensors");

    private static RunConfig Checkpointed(RunConfig config) => config with { Training = config.Training with { ActivationCheckpointing = "block" } };

    private static RunConfig Shared(RunConfig config, string shard) => Checkpointed(config) with { Parallel = config.Parallel with { Shard = shard } };

    // Blocks of 8-bit state are those of one process, but a sum that differs in its last bit may be rounded to another code: that changes an element by a part of
    // a step (the rate is 5e-3). Where the order of sums is the same, so are the bits: see below.
    private static double Tolerance(string name) => name.Contains("8-bit", StringComparison.Ordinal) ? 1e-4 : 1e-5;

    private static void Same(RankRun several, RankRun one, double tolerance = 1e-5)
    {
        Assert.That(several.Losses, Is.EqualTo(one.Losses).Within(100 * tolerance).Percent, "losses");
        Assert.That(several.Norms, Is.EqualTo(one.Norms).Within(200 * tolerance).Percent, "gradient norms");
        var (weights, expected) = (several.Weights(), one.Weights());
        Assert.That(weights.Keys, Is.EqualTo(expected.Keys));
        foreach (var (name, values) in expected)
        {
            if (tolerance == 1e-5)
            {
                Assert.That(weights[name], Is.EqualTo(values).Within(tolerance), name);
                continue;
            }

            var differences = weights[name].Zip(values, static (a, b) => Math.Abs(a - b)).ToList();
            Assert.That(differences.Max(), Is.LessThan(5e-3), $"{name}: an element differs by more than a step");
            Assert.That(differences.Count(static d => d > 1e-4), Is.LessThanOrEqualTo(Math.Max(1, values.Length / 20)), name);
        }
    }
}
