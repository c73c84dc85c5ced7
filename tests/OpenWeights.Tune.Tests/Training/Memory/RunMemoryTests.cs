using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Optimizers;
using OpenWeights.Tune.Training;
using OpenWeights.Tune.Training.Memory;

namespace OpenWeights.Tune.Tests.Training.Memory;

/// <summary>The memory of a run, told before its weights are read.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class RunMemoryTests
{
    private static IEnumerable<TestCaseData> Runs()
    {
        static TestCaseData Case(string name, Func<RunConfig, RunConfig> change) => new TestCaseData(change).SetArgDisplayNames(name);
        static RunConfig Full(RunConfig c, string optimizer, string dtype) =>
            c with { Adapter = null, Model = c.Model with { Dtype = dtype }, Training = c.Training with { Optimizer = optimizer } };
        yield return Case("LoRA", static c => c);
        yield return Case("LoRA bfloat16", static c => c with { Model = c.Model with { Dtype = "bfloat16" } });
        yield return Case("DoRA with biases and a whole head", static c => c with { Adapter = c.Adapter! with { UseDora = true, Bias = "all", ModulesToSave = ["lm_head"] } });
        yield return Case("PiSSA", static c => c with { Adapter = c.Adapter! with { InitLoraWeights = "pissa" } });
        yield return Case("embedding", static c => c with { Adapter = c.Adapter! with { TargetModules = new TextOrList(["q_proj", "embed_tokens"], IsList: true) } });
        yield return Case("nf4", static c => c with { Quantization = new QuantizationSection() });
        yield return Case("nf4, scales as they are", static c => c with { Quantization = new QuantizationSection { DoubleQuant = false, BlockSize = 32 } });
        yield return Case("int8", static c => c with { Quantization = new QuantizationSection { Type = "int8" } });
        yield return Case("checkpointing", static c => c with { Training = c.Training with { ActivationCheckpointing = "block", GradientAccumulationSteps = 2 } });
        yield return Case("LoRA-FA", static c => c with { Training = c.Training with { Optimizer = "lora_fa" } });
        yield return Case("riemannian", static c => c with { Training = c.Training with { Optimizer = "riemannian_adamw" } });
        yield return Case("muon of some matrices", static c => Full(c, "muon", "float32") with { Training = c.Training with { Optimizer = "muon", OptimTargetModules = new TextOrList(["mlp"], IsList: true) } });
        foreach (var optimizer in new[] { "adamw", "adamw_8bit", "sgd", "lion", "lion_8bit", "ademamix", "paged_ademamix_8bit", "adafactor", "adafactor_torch", "muon", "schedule_free_adamw", "galore_adamw", "apollo_adamw" })
        {
            yield return Case($"full {optimizer}", c => Full(c, optimizer, "float32"));
            yield return Case($"full {optimizer} bfloat16", c => Full(c, optimizer, "bfloat16"));
        }
    }

    [TestCaseSource(nameof(Runs))]
    public void What_is_told_from_the_config_is_what_the_model_itself_is_counted_at(Func<RunConfig, RunConfig> change)
    {
        using var folder = new TemporaryFolder();
        var config = change(Config(folder));
        var told = RunDraft.Read(config, new SilentListener());
        using var trained = told.LoadModel(new SilentListener());
        using var optimizer = OptimizerKinds.Create(trained.Parameters, config.Training);
        var loaded = MemoryEstimate.Of(
            trained,
            config.Training.RowsAtOnce,
            told.Data.Train.LongestRow,
            optimizer.State.Sum(static s => s.State.numel() * s.State.element_size()),
            config.Training.GradientAccumulationSteps > 1,
            config.Training.Checkpointing);
        Assert.That(told.Memory.Estimate, Is.EqualTo(loaded));
        Assert.That(told.Plan.TrainedParameters, Is.GreaterThan(0));
    }

    [TestCase("true", false)]
    [TestCase("olora", true)]
    [TestCase("corda", true)]
    [TestCase("lora_ga", true)]
    public void A_start_that_takes_more_than_training_is_what_the_run_needs(string start, bool takesMore)
    {
        using var folder = new TemporaryFolder();
        var config = Config(folder);

        // One row of few tokens at a time, and layers that are wide beside them.
        var shape = new ModelShape { HiddenSize = 256, IntermediateSize = 2048, Layers = 4, Heads = 4, KeyValueHeads = 2, VocabularySize = TinyModel.Vocabulary, MaxPositions = 128 };
        OpenWeights.Tune.Init.NewModel.Write("llama", shape, seed: 7, TorchSharp.torch.ScalarType.Float32, folder.At("wide"), addTokenizer: null);
        config = config with { Model = config.Model with { Path = folder.At("wide") }, Adapter = config.Adapter! with { InitLoraWeights = start }, Training = config.Training with { MicroBatchSize = 1 } };
        var memory = RunDraft.Read(config, new SilentListener()).Memory;
        Assert.That(memory.Needed, takesMore ? Is.GreaterThan(memory.Estimate.Total) : Is.EqualTo(memory.Estimate.Total));
        if (start == "lora_ga")
        {
            // Gradients of all adapted layers, in float32.
            var adapted = 4L * 4 * ((256 * 256 * 3) + (256 * 2048 * 3));
            Assert.That(memory.Needed, Is.EqualTo(memory.Estimate.Program + memory.Estimate.Weights + memory.Estimate.Adapter + memory.Estimate.Activations + adapted + (16L * 256 * 2048)));
        }
    }

    [Test]
    public void Weights_need_not_be_there()
    {
        using var folder = new TemporaryFolder();
        var config = Config(folder);
        var whole = RunDraft.Read(config, new SilentListener()).Memory.Estimate;
        File.Delete(folder.At("model", "model.safetensors"));
        Assert.That(RunDraft.Read(config, new SilentListener(), new RunOptions(SettingsAlone: true)).Memory.Estimate, Is.EqualTo(whole));
        Assert.That(() => RunDraft.Read(config, new SilentListener()), Throws.InstanceOf<FileNotFoundException>(), "a run needs them");
    }

    [Test]
    public void The_cheapest_change_that_fits_comes_first()
    {
        using var folder = new TemporaryFolder();
        var config = Config(folder);
        config = config with { Training = config.Training with { MicroBatchSize = 12, GradientAccumulationSteps = 2 } };
        var tried = new List<RunConfig>();
        MemoryChange? Find(Func<RunConfig, int, bool> fits) => MemoryChange.Find(config, 512, (c, longest) =>
        {
            tried.Add(c);
            return fits(c, longest) ? new MemoryEstimate(1, 0, 0, 0, 0, 0, 0) : null;
        });

        Assert.That(Find(static (c, _) => c.Training.MicroBatchSize <= 4)!.Settings, Is.EqualTo(new[] { "training.micro_batch_size=3", "training.gradient_accumulation_steps=8" }));
        Assert.That(Find(static (c, _) => c.Training.ActivationCheckpointing == "block")!.Settings, Is.EqualTo(new[] { "training.activation_checkpointing=block" }));
        Assert.That(Find(static (c, _) => c.Quantization is not null)!.Settings, Is.EqualTo(new[] { "quantization.type=nf4" }));
        Assert.That(Find(static (_, longest) => longest <= 256)!.Settings, Is.EqualTo(new[] { "data.max_length=256", "data.over_length=truncate" }));
        tried.Clear();
        Assert.That(Find(static (_, _) => false), Is.Null);
        Assert.That(tried.Select(static c => c.Training.RowsAtOnce * c.Training.GradientAccumulationSteps).Distinct(), Is.EqualTo(new[] { 24 }), "a step keeps its rows");
    }

    [Test]
    public void A_run_that_does_not_fit_is_refused_before_its_weights_are_read_with_a_change_that_fits()
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 40_000);
        var config = Config(folder);
        config = config with { Data = config.Data with { Train = [config.Data.Train[0] with { Repeat = 100 }], MaxLength = 100_000, Packing = true }, Training = config.Training with { MaxSteps = 1, MicroBatchSize = 1 << 16 } };
        var draft = RunDraft.Read(config, new SilentListener());
        Assert.That(draft.Memory.Fits, Is.False);
        var change = draft.Memory.Change();
        Assert.That(change, Is.Not.Null);
        Assert.That(draft.Memory.On(change!.Estimate), Is.LessThanOrEqualTo(0.95 * draft.Memory.Room!.Bytes));
        var refusal = Assert.Throws<ConfigException>(() => TrainingRun.Prepare(config, new SilentListener()))!;
        Assert.That(refusal.Message, Does.Contain(string.Join(' ', change.Settings)).And.Contains("--force"));
    }

    [Test]
    public void A_micro_batch_has_no_more_rows_than_there_are()
    {
        using var folder = new TemporaryFolder();
        var config = Config(folder);
        MemoryEstimate Of(int rows) => RunDraft.Read(config with { Training = config.Training with { MicroBatchSize = rows } }, new SilentListener()).Memory.Estimate;
        Assert.That(Of(1 << 20), Is.EqualTo(Of(13)), "there are 13 rows");
        Assert.That(Of(12).Activations, Is.LessThan(Of(13).Activations));
    }

    [Test]
    public void A_run_that_does_not_fit_is_tried_where_the_memory_is_to_be_ignored()
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 40_000);
        var config = Config(folder);
        config = config with { Data = config.Data with { Train = [config.Data.Train[0] with { Repeat = 100 }], MaxLength = 100_000, Packing = true }, Training = config.Training with { MaxSteps = 1, MicroBatchSize = 1 << 16 } };
        using var run = TrainingRun.Prepare(config, new SilentListener(), new RunOptions(IgnoreMemory: true));
        Assert.That(run.Plan.TotalSteps, Is.EqualTo(1));
    }

    private static RunConfig Config(TemporaryFolder folder)
    {
        if (!Directory.Exists(folder.At("model")))
        {
            TinyModel.Write(folder);
            TinyModel.WriteRows(folder, 13);
        }

        return new RunConfig
        {
            OutputDir = folder.At("run"),
            Model = new ModelSection { Path = folder.At("model"), Device = "cpu" },
            Adapter = new AdapterSection { Rank = 4 },
            Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], Packing = false },
            Training = new TrainingSection { MaxSteps = 2, MicroBatchSize = 3 },
        };
    }
}
