using System.Security.Cryptography;
using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Optimizers;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;
using AdamW = OpenWeights.Tune.Optimizers.AdamW;
using Parameter = TorchSharp.Modules.Parameter;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>What a run trains changes, and nothing else does.</summary>
public sealed class WhatIsTrainedTests
{
    private static readonly AdapterSection[] s_adapters =
    [
        new() { Rank = 4, LoraDropout = 0.1 },
        new() { Rank = 4, UseDora = true, LoraDropout = 0.1, ModulesToSave = ["lm_head", "norm"] },
        new() { Rank = 4, InitLoraWeights = "pissa" },
        new() { Rank = 4, InitLoraWeights = "gaussian", TargetModules = new TextOrList(["embed_tokens", "lm_head", "q_proj"], IsList: true), LoraBias = false, LoraplusLrRatio = 8 },
        new() { Rank = 4, LoraBias = true, TargetModules = new TextOrList(["q_proj"], IsList: true), LayersToTransform = [1] },
    ];

    [TestCaseSource(nameof(s_adapters))]
    public void The_base_of_an_adapter_never_changes(AdapterSection adapter)
    {
        foreach (var quantization in new[] { null, new QuantizationSection() })
        {
            using var folder = new TemporaryFolder();
            TinyModel.Write(folder);
            TinyModel.WriteRows(folder, 12);
            var files = Hash(folder.At("model"));
            var listener = new SilentListener();
            using var run = TrainingRun.Prepare(Config(folder, adapter, quantization, new TrainingSection { MaxSteps = 4, LearningRate = 1e-2, WarmupSteps = 0 }), listener);
            var weights = Weights(run);
            var result = run.Run(overwrite: false, "test", CancellationToken.None)!;
            Assert.That(Weights(run), Is.EqualTo(weights), "in memory");
            Assert.That(Hash(folder.At("model")), Is.EqualTo(files), "on disk");
            Assert.That(listener.Steps[^1].Loss, Is.LessThan(listener.Steps[0].Loss));
            Assert.That(File.Exists(Path.Combine(result, "adapter_model.safetensors")));
        }
    }

    [TestCaseSource(nameof(s_adapters))]
    public void A_run_that_is_stopped_goes_on_to_the_same_bytes(AdapterSection adapter)
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 12);
        string? Run(string name, bool resume, CancellationTokenSource? stop)
        {
            var config = Config(folder, adapter, null, new TrainingSection { MaxSteps = 4, LearningRate = 1e-2, WarmupSteps = 0 }) with { OutputDir = folder.At(name) };
            using var run = TrainingRun.Prepare(config, new SilentListener { OnStep = s => StopAfter(s, stop) }, new RunOptions(Resume: resume));
            return run.Run(overwrite: false, "test", stop?.Token ?? CancellationToken.None);
        }

        var straight = Run("straight", resume: false, null)!;
        using var stop = new CancellationTokenSource();
        Assert.That(Run("stopped", resume: false, stop), Is.Null);
        var stopped = Run("stopped", resume: true, null)!;
        foreach (var file in new[] { "adapter_model.safetensors", "adapter_config.json" })
        {
            Assert.That(File.ReadAllBytes(Path.Combine(stopped, file)), Is.EqualTo(File.ReadAllBytes(Path.Combine(straight, file))), file);
        }

        static void StopAfter(StepMetrics step, CancellationTokenSource? stop)
        {
            if (step.Step == 2)
            {
                stop?.Cancel();
            }
        }
    }

    [TestCase("all", 1, "model.layers.1.,model.norm,lm_head")]
    [TestCase("norms_and_biases", 0, "layernorm,model.norm")]
    [TestCase("norms_and_biases", 1, "model.layers.1.input_layernorm,model.layers.1.post_attention_layernorm,model.norm")]
    public void Only_what_is_asked_for_is_trained_and_has_optimizer_state(string trainable, int first, string names)
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder, tied: false);
        TinyModel.WriteRows(folder, 12);
        var config = Config(folder, null, null, new TrainingSection { MaxSteps = 4, LearningRate = 1e-2, WarmupSteps = 0, Trainable = trainable, FirstTrainedLayer = first });
        using var run = TrainingRun.Prepare(config, new SilentListener());
        var result = run.Run(overwrite: false, "test", CancellationToken.None)!;
        using var before = CheckpointWeights.Open(folder.At("model"));
        using var after = CheckpointWeights.Open(result);
        foreach (var entry in before.Tensors)
        {
            var trained = names.Split(',').Any(n => entry.Name.Contains(n, StringComparison.Ordinal));
            Assert.That(after.ReadBytes(entry.Name).SequenceEqual(before.ReadBytes(entry.Name)), Is.Not.EqualTo(trained), entry.Name);
        }

        using var state = SafetensorsFile.Open(folder.At("run", "checkpoints", "step-00000004", "optimizer.safetensors"));
        Assert.That(state.Tensors.All(t => names.Split(',').Any(n => t.Name.Contains(n, StringComparison.Ordinal))));
        Assert.That(state.Tensors, Is.Not.Empty);
    }

    [Test]
    public void A_first_layer_that_the_model_does_not_have_is_refused()
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 4);
        var config = Config(folder, null, null, new TrainingSection { MaxSteps = 1, FirstTrainedLayer = 2 });
        Assert.That(() => TrainingRun.Prepare(config, new SilentListener()), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("first_trained_layer: there is no layer 2"));
    }

    [Test]
    public void Parameters_with_a_faster_rate_move_as_with_that_rate()
    {
        using var scope = NewDisposeScope();
        Parameter Make() => new(ones([3], float32));
        var (plain, fast, reference) = (Make(), Make(), Make());
        using var together = new AdamW([new TrainedParameter("a", plain, true), new TrainedParameter("b", fast, true, RateFactor: 16)], new AdamSettings(0.9, 0.95, 1e-8, 0.01));
        using var alone = new AdamW([new TrainedParameter("b", reference, true)], new AdamSettings(0.9, 0.95, 1e-8, 0.01));
        for (var i = 1; i < 4; i++)
        {
            foreach (var parameter in new[] { plain, fast, reference })
            {
                parameter.grad = tensor(new float[] { i, -2, 0.5f });
            }

            together.Step(1e-3);
            alone.Step(16e-3);
        }

        Assert.That(fast.eq(reference).all().item<bool>());
        Assert.That(fast.eq(plain).any().item<bool>(), Is.False);
    }

    [Test]
    public void LoRA_plus_groups_are_PEFTs()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, TestDevice.Current);
        var config = new Tune.Adapters.LoraConfig { Rank = 2, Targets = Tune.Adapters.TargetModules.Of(["embed_tokens", "q_proj"]), ModulesToSave = ["norm"] };
        var adapter = Tune.Adapters.PeftAdapter.Create(loaded.Model, config, 1);
        using var training = new AdapterTraining(loaded, adapter, new LoraPlusRates(16, 1e-6, 1e-3));
        double Factor(string name) => training.Parameters.Single(p => p.Name.EndsWith(name, StringComparison.Ordinal)).RateFactor;
        Assert.That((Factor("layers.0.self_attn.q_proj.lora_A.weight"), Factor("layers.0.self_attn.q_proj.lora_B.weight")), Is.EqualTo((1.0, 16.0)));
        Assert.That((Factor("lora_embedding_A"), Factor("lora_embedding_B"), Factor("model.norm.weight")), Is.EqualTo((1e-3, 1e-3, 16.0)));
    }

    private static RunConfig Config(TemporaryFolder folder, AdapterSection? adapter, QuantizationSection? quantization, TrainingSection training) => new()
    {
        OutputDir = folder.At("run"),
        Model = new ModelSection { Path = folder.At("model"), Device = TestDevice.Name },
        Adapter = adapter,
        Quantization = quantization,
        Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], MaxLength = 64, Packing = true },
        Training = training with { MicroBatchSize = 4 },
    };

    private static string Weights(TrainingRun run)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var (_, parameter) in run.Model.named_parameters())
        {
            using var here = parameter.detach().to(CPU, copy: true);
            hash.AppendData(here.bytes);
        }

        foreach (var (_, layer) in run.Model.LinearLayers.Where(static l => l.Layer.Quantized is not null))
        {
            using var scope = NewDisposeScope();
            var values = layer.Quantized!.Rows(0, layer.OutFeatures, float32).cpu();
            hash.AppendData(values.bytes);
        }

        return Convert.ToHexString(hash.GetHashAndReset());
    }

    private static string Hash(string folder) => string.Join('\n', Directory.GetFiles(folder).Order(StringComparer.Ordinal).Select(static f => Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(f)))));
}
