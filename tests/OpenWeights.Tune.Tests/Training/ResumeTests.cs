using OpenWeights.Testing;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>A run that is stopped and goes on is the run that was never stopped, bit for bit.</summary>
public sealed class ResumeTests
{
    [TestCase(true, "adamw", false, Category = TestDevice.CpuAlone)]
    [TestCase(false, "adamw", false, Category = TestDevice.CpuAlone)]
    [TestCase(true, "adamw", true, Category = TestDevice.CpuAlone)]
    [TestCase(false, "adamw_8bit", false)]
    [TestCase(true, "sgd", false, Category = TestDevice.CpuAlone)]
    [TestCase(true, "lion", false, Category = TestDevice.CpuAlone)]
    [TestCase(false, "adafactor", true, Category = TestDevice.CpuAlone)]
    [TestCase(false, "adafactor_torch", false, Category = TestDevice.CpuAlone)]
    [TestCase(false, "lion_8bit", false, Category = TestDevice.CpuAlone)]
    [TestCase(false, "ademamix", false, Category = TestDevice.CpuAlone)]
    [TestCase(false, "ademamix_8bit", false, Category = TestDevice.CpuAlone)]
    [TestCase(false, "paged_adamw_8bit", false)]
    [TestCase(false, "muon", false)]
    [TestCase(true, "muon", false, Category = TestDevice.CpuAlone)]
    [TestCase(false, "schedule_free_adamw", false)]
    [TestCase(true, "schedule_free_adamw", false, Category = TestDevice.CpuAlone)]
    [TestCase(false, "galore_adamw", false)]
    [TestCase(false, "apollo_adamw", false)]
    [TestCase(true, "lora_fa", false)]
    [TestCase(true, "riemannian_adamw", false)]
    public void Going_on_gives_the_bytes_of_a_run_that_was_not_stopped(bool adapter, string optimizer, bool packing)
    {
        using var folder = new TemporaryFolder();
        var straight = Config(folder, "straight", adapter, optimizer, packing);
        Assert.That(Run(straight, new SilentListener(), resume: false), Is.Not.Null);

        using var stop = new CancellationTokenSource();
        var stopped = Config(folder, "stopped", adapter, optimizer, packing);
        Assert.That(Run(stopped, new SilentListener { OnStep = s => StopAt(s, 5, stop) }, resume: false, stop.Token), Is.Null, "stopped in the middle of an epoch");
        Assert.That(Directory.Exists(folder.At("stopped", "checkpoints", "step-00000005")), "stopping leaves a checkpoint");
        var listener = new SilentListener();
        Assert.That(Run(stopped, listener, resume: true), Is.Not.Null);
        Assert.That(listener.Steps[0].Step, Is.EqualTo(6));

        var (name, file) = adapter ? ("adapter", "adapter_model.safetensors") : ("model", "model.safetensors");
        Assert.That(File.ReadAllBytes(folder.At("stopped", name, file)), Is.EqualTo(File.ReadAllBytes(folder.At("straight", name, file))));
        Assert.That(Numbers(folder.At("stopped", "metrics.jsonl")), Is.EqualTo(Numbers(folder.At("straight", "metrics.jsonl"))));
    }

    [TestCase("adamw")]
    [TestCase("adafactor", Category = TestDevice.CpuAlone)]
    [TestCase("schedule_free_adamw", Category = TestDevice.CpuAlone)]
    [TestCase("ademamix_8bit", Category = TestDevice.CpuAlone)]
    [TestCase("muon", Category = TestDevice.CpuAlone)]
    public void So_does_a_model_of_bfloat16(string optimizer)
    {
        using var folder = new TemporaryFolder();
        RunConfig Named(string name)
        {
            var config = Config(folder, name, adapter: false, optimizer);
            return config with { Model = config.Model with { Dtype = "bfloat16" } };
        }

        Assert.That(Run(Named("straight"), new SilentListener(), resume: false), Is.Not.Null);
        using var stop = new CancellationTokenSource();
        Assert.That(Run(Named("stopped"), new SilentListener { OnStep = s => StopAt(s, 5, stop) }, resume: false, stop.Token), Is.Null);
        Assert.That(Run(Named("stopped"), new SilentListener(), resume: true), Is.Not.Null);
        Assert.That(File.ReadAllBytes(folder.At("stopped", "model", "model.safetensors")), Is.EqualTo(File.ReadAllBytes(folder.At("straight", "model", "model.safetensors"))));
        Assert.That(Numbers(folder.At("stopped", "metrics.jsonl")), Is.EqualTo(Numbers(folder.At("straight", "metrics.jsonl"))));
    }

    [Test]
    public void So_does_noise_on_the_embeddings()
    {
        using var folder = new TemporaryFolder();
        RunConfig Named(string name, double alpha)
        {
            var config = Config(folder, name, adapter: true, "adamw");
            return config with { Training = config.Training with { NeftuneNoiseAlpha = alpha } };
        }

        Assert.That(Run(Named("straight", 5), new SilentListener(), resume: false), Is.Not.Null);
        using var stop = new CancellationTokenSource();
        Assert.That(Run(Named("stopped", 5), new SilentListener { OnStep = s => StopAt(s, 5, stop) }, resume: false, stop.Token), Is.Null);
        Assert.That(Run(Named("stopped", 5), new SilentListener(), resume: true), Is.Not.Null);
        var straight = File.ReadAllBytes(folder.At("straight", "adapter", "adapter_model.safetensors"));
        Assert.That(File.ReadAllBytes(folder.At("stopped", "adapter", "adapter_model.safetensors")), Is.EqualTo(straight));
        Assert.That(Run(Named("without", 0), new SilentListener(), resume: false), Is.Not.Null);
        Assert.That(File.ReadAllBytes(folder.At("without", "adapter", "adapter_model.safetensors")), Is.Not.EqualTo(straight));
    }

    [TestCase("averaged", "float32")]
    [TestCase("last", "float32")]
    [TestCase("averaged", "bfloat16")]
    public void So_does_a_moving_average_of_the_weights(string result, string dtype)
    {
        using var folder = new TemporaryFolder();
        RunConfig Named(string name)
        {
            var config = Config(folder, name, adapter: false);
            return config with
            {
                Model = config.Model with { Dtype = dtype },
                Data = config.Data with { Eval = config.Data.Train },
                Evaluation = new EvaluationSection { EverySteps = 4 },
                Training = config.Training with { Ema = new EmaSection { Decay = 0.8, Result = result } },
            };
        }

        Assert.That(Run(Named("straight"), new SilentListener(), resume: false), Is.Not.Null);
        using var stop = new CancellationTokenSource();
        Assert.That(Run(Named("stopped"), new SilentListener { OnStep = s => StopAt(s, 5, stop) }, resume: false, stop.Token), Is.Null);
        Assert.That(Run(Named("stopped"), new SilentListener(), resume: true), Is.Not.Null);
        Assert.That(File.ReadAllBytes(folder.At("stopped", "model", "model.safetensors")), Is.EqualTo(File.ReadAllBytes(folder.At("straight", "model", "model.safetensors"))));
        Assert.That(Numbers(folder.At("stopped", "metrics.jsonl")), Is.EqualTo(Numbers(folder.At("straight", "metrics.jsonl"))));
    }

    [TestCase(true, false)]
    [TestCase(false, true)]
    public void So_do_DoRA_and_QLoRA(bool dora, bool quantized)
    {
        using var folder = new TemporaryFolder();
        RunConfig Named(string name)
        {
            var config = Config(folder, name, adapter: true);
            return config with { Adapter = config.Adapter! with { UseDora = dora }, Quantization = quantized ? new QuantizationSection { BlockSize = 32 } : null };
        }

        Assert.That(Run(Named("straight"), new SilentListener(), resume: false), Is.Not.Null);
        using var stop = new CancellationTokenSource();
        Assert.That(Run(Named("stopped"), new SilentListener { OnStep = s => StopAt(s, 5, stop) }, resume: false, stop.Token), Is.Null);
        Assert.That(Run(Named("stopped"), new SilentListener(), resume: true), Is.Not.Null);
        Assert.That(
            File.ReadAllBytes(folder.At("stopped", "adapter", "adapter_model.safetensors")),
            Is.EqualTo(File.ReadAllBytes(folder.At("straight", "adapter", "adapter_model.safetensors"))));
        Assert.That(Numbers(folder.At("stopped", "metrics.jsonl")), Is.EqualTo(Numbers(folder.At("straight", "metrics.jsonl"))));
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void A_damaged_checkpoint_is_passed_over_for_the_one_before()
    {
        using var folder = new TemporaryFolder();
        using var stop = new CancellationTokenSource();
        var config = Config(folder, "run", adapter: true) with { Checkpoint = new CheckpointSection { EverySteps = 3, Keep = 3 } };
        Assert.That(Run(config, new SilentListener { OnStep = s => StopAt(s, 7, stop) }, resume: false, stop.Token), Is.Null);
        var weights = folder.At("run", "checkpoints", "step-00000007", "weights", "adapter_model.safetensors");
        var bytes = File.ReadAllBytes(weights);
        bytes[^5] ^= 1;
        File.WriteAllBytes(weights, bytes);

        var listener = new SilentListener();
        Assert.That(Run(config, listener, resume: true), Is.Not.Null);
        Assert.That(listener.Warnings, Has.One.Contains("step-00000007").And.One.Contains("adapter_model.safetensors"));
        Assert.That(listener.Steps[0].Step, Is.EqualTo(7), "from the checkpoint of step 6");
        Assert.That(Numbers(folder.At("run", "metrics.jsonl")).Count, Is.EqualTo(10), "the line of step 7 is not there twice");
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void Another_learning_rate_is_refused_and_named()
    {
        using var folder = new TemporaryFolder();
        using var stop = new CancellationTokenSource();
        var config = Config(folder, "run", adapter: true);
        _ = Run(config, new SilentListener { OnStep = s => StopAt(s, 2, stop) }, resume: false, stop.Token);
        var other = config with { Training = config.Training with { LearningRate = 1 } };
        Assert.That(() => Run(other, new SilentListener(), resume: true), Throws.InstanceOf<ConfigException>().With.Message.Contains("training.learning_rate"));
    }

    [TestCase(4, 1)]
    [TestCase(1, 4)]
    public void A_run_goes_on_with_its_steps_split_otherwise(int rows, int accumulation)
    {
        using var folder = new TemporaryFolder();
        RunConfig Named(string name)
        {
            var config = Config(folder, name, adapter: true);
            return config with { Adapter = config.Adapter! with { LoraDropout = 0 } };
        }

        var straight = new SilentListener();
        _ = Run(Named("straight"), straight, resume: false);
        using var stop = new CancellationTokenSource();
        _ = Run(Named("stopped"), new SilentListener { OnStep = s => StopAt(s, 5, stop) }, resume: false, stop.Token);
        var config = Named("stopped");
        var listener = new SilentListener();
        Assert.That(Run(config with { Training = config.Training with { MicroBatchSize = rows, GradientAccumulationSteps = accumulation } }, listener, resume: true), Is.Not.Null);
        Assert.That(listener.Steps.Select(static s => (s.Step, s.Tokens, s.TargetTokens)), Is.EqualTo(straight.Steps.Skip(5).Select(static s => (s.Step, s.Tokens, s.TargetTokens))), "the same rows in the same steps");
        Assert.That(listener.Steps.Select(static s => s.Loss), Is.EqualTo(straight.Steps.Skip(5).Select(static s => s.Loss)).Within(1e-5));
        Assert.That(listener.Warnings, Has.Some.Contains("training.micro_batch_size").And.Some.Contains("Every step keeps its rows"));
        Assert.That(
            () => Run(config with { Training = config.Training with { MicroBatchSize = 3 } }, new SilentListener(), resume: true),
            Throws.InstanceOf<ConfigException>().With.Message.Contains("the number of rows per step must stay 4").And.Message.Contains("is now 6"));
        Assert.That(
            Assert.Throws<ConfigException>(() => Run(config with { Training = config.Training with { MicroBatchSize = 3, GradientAccumulationSteps = 5 } }, new SilentListener(), resume: true))!.Problems,
            Has.Count.EqualTo(1), "one cause is told once");
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void A_finished_run_is_not_replaced_unasked()
    {
        using var folder = new TemporaryFolder();
        var config = Config(folder, "run", adapter: true) with { Checkpoint = new CheckpointSection { EverySteps = 0 } };
        _ = Run(config, new SilentListener(), resume: false);
        Assert.That(() => RunFolder.RequireFree(config, resume: false, overwrite: false), Throws.InstanceOf<ConfigException>().With.Message.Contains("finished run").And.Message.Contains("--overwrite"));
        Assert.That(() => Run(config, new SilentListener(), resume: false), Throws.InstanceOf<ConfigException>().With.Message.Contains("--overwrite"));
        var longer = config with { Training = config.Training with { MaxSteps = 12 } };
        Assert.That(() => Run(longer, new SilentListener(), resume: true), Throws.InstanceOf<ConfigException>().With.Message.Contains("--overwrite"), "there is no checkpoint to go on from");
        Assert.That(File.Exists(folder.At("run", "adapter", "adapter_model.safetensors")));
        using var again = TrainingRun.Prepare(config, new SilentListener());
        Assert.That(again.Run(overwrite: true, "test", CancellationToken.None), Is.Not.Null);
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void Going_on_with_a_finished_run_changes_no_file_and_takes_no_step_until_more_is_asked_for()
    {
        using var folder = new TemporaryFolder();
        var config = Config(folder, "run", adapter: true) with { Checkpoint = new CheckpointSection { EverySteps = 5 } };
        var first = Run(config, new SilentListener(), resume: false);
        Dictionary<string, (DateTime, string)> Files() => Directory.EnumerateFiles(folder.At("run"), "*", SearchOption.AllDirectories)
            .ToDictionary(static f => f, static f => (File.GetLastWriteTimeUtc(f), Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(File.ReadAllBytes(f)))));
        var before = Files();
        var listener = new SilentListener();
        Assert.That(Run(config, listener, resume: true), Is.EqualTo(first));
        Assert.That(Files().Except(before).Select(static f => f.Key), Is.Empty);
        Assert.That(Files(), Has.Count.EqualTo(before.Count));
        Assert.That(listener.Steps, Is.Empty);
        Assert.That(listener.Warnings, Has.One.Contains("finished after 10 steps").And.One.Contains("nothing was done"));

        listener = new SilentListener();
        Assert.That(Run(config with { Training = config.Training with { MaxSteps = 12 } }, listener, resume: true), Is.EqualTo(first));
        Assert.That(listener.Steps.Select(static s => s.Step), Is.EqualTo(new[] { 11, 12 }));
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void A_folder_that_holds_the_base_or_somebodys_model_is_never_replaced()
    {
        using var folder = new TemporaryFolder();
        var config = Config(folder, ".", adapter: false) with { OutputDir = folder.Root };
        Assert.That(() => RunFolder.RequireFree(config, resume: false, overwrite: true), Throws.InstanceOf<ConfigException>().With.Message.Contains("which it reads"));
        _ = folder.Write("other/model/config.json", "{}");
        Assert.That(
            () => RunFolder.RequireFree(config with { OutputDir = folder.At("other") }, resume: false, overwrite: true),
            Throws.InstanceOf<ConfigException>().With.Message.Contains("contains model, which was not written by a run"));
    }

    [TestCase("config.yaml")]
    [TestCase("manifest.json")]
    [TestCase("metrics.jsonl")]
    [TestCase("report.html")]
    [TestCase("adapter/adapter_config.json")]
    [TestCase("checkpoints/mine.txt")]
    [TestCase("events.out.tfevents.1.other")]
    [Category(TestDevice.CpuAlone)]
    public void A_file_of_somebody_that_a_run_would_overwrite_is_refused_and_stays(string file)
    {
        using var folder = new TemporaryFolder();
        var config = Config(folder, "run", adapter: true);
        var path = folder.Write($"run/{file}", "{\"mine\": true}");
        foreach (var overwrite in new[] { false, true })
        {
            Assert.That(
                () => RunFolder.RequireFree(config, resume: false, overwrite),
                Throws.InstanceOf<ConfigException>().With.Message.Contains($"contains {file.Split('/')[0]}, which was not written by a run"));
        }

        var yaml = folder.Write("train.yaml", "output_dir: run\nmodel: { path: model }\nadapter: { r: 4 }\ndata: { train: rows.jsonl }\n");
        Assert.That(RunCheck.Problems(RunConfigFile.Open(yaml, [$"output_dir={folder.At("run")}"])).Select(static p => p.ToString()), Has.One.Contains("output_dir").And.Contains("not written by a run"));
        Assert.That(File.ReadAllText(path), Is.EqualTo("{\"mine\": true}"));
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void Other_files_in_the_folder_are_told_of_and_stay_through_a_run_and_the_one_that_replaces_it()
    {
        using var folder = new TemporaryFolder();
        var config = Config(folder, "run", adapter: true) with { Training = new TrainingSection { MaxSteps = 1, WarmupSteps = 0 } };
        var notes = folder.Write("run/notes.txt", "mine");
        var listener = new SilentListener();
        Assert.That(Run(config, listener, resume: false), Is.Not.Null);
        Assert.That(listener.Warnings, Has.One.Contains("also contains notes.txt, which no run wrote"));
        using var again = TrainingRun.Prepare(config, new SilentListener());
        Assert.That(again.Run(overwrite: true, "test", CancellationToken.None), Is.Not.Null);
        Assert.That(File.ReadAllText(notes), Is.EqualTo("mine"));
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void A_second_run_does_not_replace_an_unfinished_one_unasked()
    {
        using var folder = new TemporaryFolder();
        using var stop = new CancellationTokenSource();
        var config = Config(folder, "run", adapter: true);
        _ = Run(config, new SilentListener { OnStep = s => StopAt(s, 2, stop) }, resume: false, stop.Token);
        Assert.That(() => Run(config, new SilentListener(), resume: false), Throws.InstanceOf<ConfigException>().With.Message.Contains("--resume"));
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void Two_runs_into_one_folder_at_once_are_refused()
    {
        using var folder = new TemporaryFolder();
        using var first = RunFolder.Take(folder.At("run"));
        Assert.That(() => RunFolder.Take(folder.At("run")), Throws.InstanceOf<IOException>().With.Message.Contains("another run"));
        Assert.That(() => RunFolder.RequireWritable(folder.At("run")), Throws.InstanceOf<IOException>().With.Message.Contains("another run"));
        RunFolder.RequireWritable(folder.At("new", "runs", "x"));
        Assert.That(Directory.Exists(folder.At("new")), Is.False, "a look leaves nothing behind");
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void Checkpoints_beyond_the_number_kept_are_removed()
    {
        using var folder = new TemporaryFolder();
        var config = Config(folder, "run", adapter: true) with { Checkpoint = new CheckpointSection { EverySteps = 2, Keep = 2 } };
        _ = Run(config, new SilentListener(), resume: false);
        Assert.That(Directory.GetDirectories(folder.At("run", "checkpoints")).Select(Path.GetFileName).Order(), Is.EqualTo(new[] { "step-00000008", "step-00000010" }));
    }

    private static void StopAt(StepMetrics step, long at, CancellationTokenSource stop)
    {
        if (step.Step == at)
        {
            stop.Cancel();
        }
    }

    // A line's numbers but for those that the clock and the machine decide.
    private static List<string> Numbers(string path) =>
    [
        .. File.ReadLines(path).Select(static line =>
        {
            var json = JsonNode.Parse(line)!.AsObject();
            foreach (var key in new[] { "seconds", "tokens_per_second", "peak_memory_bytes" })
            {
                json.Remove(key);
            }

            return json.ToJsonString();
        }),
    ];

    private static string? Run(RunConfig config, SilentListener listener, bool resume, CancellationToken stop = default)
    {
        using var run = TrainingRun.Prepare(config, listener, new RunOptions(Resume: resume));
        return run.Run(overwrite: false, "test", stop);
    }

    private static RunConfig Config(TemporaryFolder folder, string name, bool adapter, string optimizer = "adamw", bool packing = false)
    {
        if (!Directory.Exists(folder.At("model")))
        {
            TinyModel.Write(folder);
            TinyModel.WriteRows(folder, 13);
        }

        return new RunConfig
        {
            OutputDir = folder.At(name),
            Model = new ModelSection { Path = folder.At("model"), Device = TestDevice.Name },
            Adapter = adapter ? new AdapterSection { Rank = 4, LoraAlpha = 8, LoraDropout = 0.1 } : null,
            Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], Packing = packing, MaxLength = packing ? 32 : 2048 },
            Training = new TrainingSection
            {
                Optimizer = optimizer,
                Momentum = 0.9,
                MaxSteps = 10,
                WarmupSteps = 2,
                LearningRate = 5e-3,
                MicroBatchSize = 2,
                GradientAccumulationSteps = 2,
                Min8bitSize = 512,
                Galore = new GaloreSection { Rank = 4, UpdateProjGap = 3 },
                Apollo = new ApolloSection { Rank = 2, UpdateProjGap = 3, ScaleType = "channel" },
                Ademamix = new AdemamixSection { TAlpha = 8, TBeta3 = 8 },
            },
        };
    }
}
