using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Adapters.Kinds;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Init;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Tests;
using OpenWeights.Tune.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.PretendCuda.Tests;

/// <summary>Runs whose layers are on two devices are the runs of one device.</summary>
public sealed class SeveralDevicesTests
{
    private static readonly TextOrList s_both = new(["cuda:0", "cuda:1"], IsList: true);

    private static IEnumerable<TestCaseData> Runs()
    {
        static TestCaseData Case(string name, Func<RunConfig, RunConfig> change) => new TestCaseData(change).SetArgDisplayNames(name);
        static Func<RunConfig, RunConfig> Kind(AdapterConfig kind) => c =>
        {
            var section = new AdapterSection { Type = kind.TypeName, Own = kind };
            return c with { Adapter = kind.Targets.Names is { Count: > 0 } targets ? section with { TargetModules = new TextOrList([.. targets], IsList: true) } : section };
        };
        yield return Case("LoRA", static c => c);
        yield return Case("LoRA with dropout, accumulated", static c => c with { Adapter = c.Adapter! with { LoraDropout = 0.1 }, Training = c.Training with { GradientAccumulationSteps = 2 } });
        yield return Case("DoRA of all, with embedding and head", static c => c with { Adapter = c.Adapter! with { UseDora = true, TargetModules = new TextOrList(["q_proj", "down_proj", "embed_tokens", "lm_head"], IsList: true) } });
        yield return Case("modules to save and biases", static c => c with { Adapter = c.Adapter! with { ModulesToSave = ["embed_tokens", "lm_head"] } });
        yield return Case("full", static c => c with { Adapter = null });
        yield return Case("full bfloat16, 8-bit state", static c => c with { Adapter = null, Model = c.Model with { Dtype = "bfloat16" }, Training = c.Training with { Optimizer = "adamw_8bit", Min8bitSize = 256 } });
        yield return Case("full, clipped by value and norm, averaged", static c => c with { Adapter = null, Training = c.Training with { MaxGradNorm = 0.1, MaxGradValue = 0.01, Ema = new EmaSection() } });
        foreach (var optimizer in new[] { "muon", "adafactor", "galore_adamw", "schedule_free_adamw", "lion_8bit", "paged_adamw" })
        {
            yield return Case(optimizer, c => c with { Adapter = null, Training = c.Training with { Optimizer = optimizer, Min8bitSize = 256 } });
        }

        yield return Case("riemannian", static c => c with { Training = c.Training with { Optimizer = "riemannian_adamw" } });
        yield return Case("packed, checkpointed", static c => c with { Data = c.Data with { Packing = true, MaxLength = 64 }, Training = c.Training with { ActivationCheckpointing = "block" } });
        yield return Case("selective, offloaded", static c => c with { Adapter = c.Adapter! with { LoraDropout = 0.1 }, Training = c.Training with { ActivationCheckpointing = "selective", Offload = "activations" } });
        yield return Case("optimizer offloaded", static c => c with { Training = c.Training with { Offload = "optimizer" } });
        yield return Case("nf4", static c => c with { Quantization = new QuantizationSection(), Training = c.Training with { ActivationCheckpointing = "block" } });
        yield return Case("int8", static c => c with { Quantization = new QuantizationSection { Type = "int8" } });
        yield return Case("noise on embeddings", static c => c with { Training = c.Training with { NeftuneNoiseAlpha = 5 } });
        yield return Case("vera", Kind(new VeraConfig { Rank = 8, VeraDropout = 0.1 }));
        yield return Case("vblora", Kind(new VbloraConfig { VectorLength = 16, NumVectors = 12 }));
        yield return Case("randlora", Kind(new RandloraConfig { Rank = 8, RandloraAlpha = 32 }));
        yield return Case("prompt tuning", Kind(new PromptTuningConfig { NumVirtualTokens = 4, PromptTuningInit = "SAMPLE_VOCAB" }));
        yield return Case("prefix tuning", Kind(new PrefixTuningConfig { NumVirtualTokens = 4, PrefixProjection = true }));
        yield return Case("p-tuning", Kind(new PTuningConfig { NumVirtualTokens = 4, EncoderHiddenSize = 16 }));
        yield return Case("adalora", Kind(new AdaloraConfig { InitR = 4, TargetR = 2, Tinit = 1, Tfinal = 1, TotalStep = 4, DeltaT = 1 }));
        yield return Case("boft", Kind(new BoftConfig { BoftBlockSize = 4, BoftNButterflyFactor = 2 }));
        yield return Case("fourierft", Kind(new FourierftConfig { NFrequency = 50, Scaling = 20 }));
        yield return Case("lokr", Kind(new LokrConfig { Rank = 4, Alpha = 8, ModuleDropout = 0.1 }));
        yield return Case("trainable tokens", Kind(new TrainableTokensConfig { TokenIndices = [1, 2, 3, 40] }));
    }

    [TestCaseSource(nameof(Runs))]
    public void A_run_on_two_devices_is_that_on_one(Func<RunConfig, RunConfig> change)
    {
        foreach (var tied in new[] { false, true })
        {
            using var folder = new TemporaryFolder();
            Prepare(folder, tied);
            var one = Train(folder, "one", "cuda:0", change, out var ofOne, out _);
            var two = Train(folder, "two", s_both, change, out var ofTwo, out var held);
            Assert.That(held, Is.GreaterThan(0), "the second device has a part of the model");
            Assert.That(two, Is.EqualTo(one).Within(1e-6));
            Assert.That(ofTwo.Keys, Is.EquivalentTo(ofOne.Keys));
            foreach (var (name, values) in ofOne)
            {
                using var scope = NewDisposeScope();
                Assert.That(ofTwo[name].to(float64).sub(values.to(float64)).norm().ToDouble(), Is.LessThan(1e-5), name);
            }
        }
    }

    [Test]
    public void A_run_that_began_on_two_devices_goes_on_on_one()
    {
        using var folder = new TemporaryFolder();
        Prepare(folder, tied: false);
        Func<RunConfig, RunConfig> full = static c => c with { Adapter = null, Checkpoint = new CheckpointSection { EverySteps = 2 } };
        var whole = Train(folder, "whole", "cuda:0", full, out _, out _);
        var begun = Train(folder, "run", s_both, full, out _, out _, stopAfter: 2);
        var rest = Train(folder, "run", "cuda:0", full, out _, out _, resume: true);
        Assert.That(begun.Concat(rest), Is.EqualTo(whole).Within(1e-6));
    }

    [Test]
    public void Dpo_with_a_reference_of_its_own_and_a_mixture_with_a_router_loss_are_the_same()
    {
        using var folder = new TemporaryFolder();
        var shape = new ModelShape { HiddenSize = 32, IntermediateSize = 48, Layers = 3, Heads = 4, KeyValueHeads = 2, VocabularySize = TinyModel.Vocabulary, MaxPositions = 128, TiedEmbeddings = true };
        NewModel.Write("llama", shape, 7, float32, folder.At("model"), addTokenizer: null);
        _ = folder.Write("rows.jsonl", string.Concat(Enumerable.Range(0, 12).Select(static i => $$"""{"prompt_ids": [1, {{i}}], "chosen_ids": [{{i + 3}}, 5, 7], "rejected_ids": [{{i + 9}}, 8]}""" + "\n")));
        Func<RunConfig, RunConfig> dpo = static c => c with { Adapter = null, Objective = c.Objective with { Type = "dpo" } };
        Assert.That(Train(folder, "two", s_both, dpo, out _, out _), Is.EqualTo(Train(folder, "one", "cuda:0", dpo, out _, out _)).Within(1e-6));
    }

    [TestCase("named twice", "cuda", "cuda:0")]
    [TestCase("cannot be one of several", "cuda:0", "cpu")]
    [TestCase("cannot be one of several", "auto", "cuda:1")]
    [TestCase("torch finds 2 GPUs", "cuda:1", "cuda:2")]
    [TestCase("names no device")]
    public void Devices_that_cannot_share_a_model_are_refused(string expected, params string[] devices)
    {
        using var folder = new TemporaryFolder();
        Prepare(folder, tied: false);
        Assert.That(() => Train(folder, "run", new TextOrList(devices, IsList: true), static c => c, out _, out _), Throws.Exception.With.Message.Contains(expected));
    }

    [Test]
    public void More_devices_than_layers_are_refused()
    {
        using var folder = new TemporaryFolder();
        NewModel.Write("llama", new ModelShape { HiddenSize = 32, IntermediateSize = 48, Layers = 1, Heads = 4, KeyValueHeads = 2, VocabularySize = TinyModel.Vocabulary, MaxPositions = 128 }, 7, float32, folder.At("model"), addTokenizer: null);
        _ = TinyModel.WriteRows(folder, 13);
        Assert.That(() => Train(folder, "run", s_both, static c => c, out _, out _), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("too few for 2 devices"));
    }

    private static void Prepare(TemporaryFolder folder, bool tied)
    {
        var shape = new ModelShape { HiddenSize = 32, IntermediateSize = 48, Layers = 3, Heads = 4, KeyValueHeads = 2, VocabularySize = TinyModel.Vocabulary, MaxPositions = 128, TiedEmbeddings = tied };
        NewModel.Write("llama", shape, 7, float32, folder.At("model"), addTokenizer: null);
        _ = TinyModel.WriteRows(folder, 13);
    }

    private static List<double> Train(TemporaryFolder folder, string output, TextOrList devices, Func<RunConfig, RunConfig> change, out Dictionary<string, Tensor> weights, out long heldBySecond, bool resume = false, int stopAfter = int.MaxValue)
    {
        using var stop = new CancellationTokenSource();
        long held = 0;
        var listener = new SilentListener
        {
            OnStep = step =>
            {
                held = Math.Max(held, PretendDevice.MemoryOf(1));
                if (step.Step == stopAfter)
                {
                    stop.Cancel();
                }
            },
        };
        var config = change(new RunConfig
        {
            OutputDir = folder.At(output),
            Model = new ModelSection { Path = folder.At("model"), Device = devices, Dtype = "float32" },
            Adapter = new AdapterSection { Rank = 4 },
            Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], Packing = false },
            Training = new TrainingSection { MaxSteps = 4, WarmupSteps = 0, LearningRate = 1e-2, MicroBatchSize = 4 },
            Checkpoint = new CheckpointSection { EverySteps = 0 },
        });
        GC.Collect();
        GC.WaitForPendingFinalizers();
        var before = PretendDevice.MemoryOf(1);
        using (var run = TrainingRun.Prepare(config, listener, new RunOptions(Resume: resume)))
        {
            _ = run.Run(overwrite: false, "test", stop.Token);
        }

        heldBySecond = held - before;
        weights = [];
        if (Directory.GetFiles(folder.At(output), "*.safetensors", SearchOption.AllDirectories) is { Length: > 0 } files)
        {
            using var file = SafetensorsFile.Open(files.OrderBy(static f => f.Contains("checkpoint", StringComparison.Ordinal)).First());
            foreach (var tensor in file.Tensors)
            {
                weights[tensor.Name] = OpenWeights.Tune.Torch.TensorFiles.Read(file, tensor.Name).DetachFromDisposeScope();
            }
        }

        return listener.Steps.ConvertAll(static s => s.Loss);
    }
}
