using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Tests;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;
using OpenWeights.Tune.Training.Memory;
using static TorchSharp.torch;

namespace OpenWeights.Tune.PretendCuda.Tests;

/// <summary>GPUs of other generations: without bfloat16, and without any code for them.</summary>
public sealed class CapabilityTests
{
    [TearDown]
    public void Back() => PretendDevice.SetCapability(80);

    [TestCase(80, "llama", ScalarType.BFloat16)]
    [TestCase(75, "llama", ScalarType.Float16)]
    [TestCase(75, "gemma2", ScalarType.Float32)]
    [TestCase(61, "qwen2", ScalarType.Float16)]
    public void What_is_stored_in_bfloat16_is_computed_in_what_the_gpu_has(int capability, string family, ScalarType computed)
    {
        PretendDevice.SetCapability(capability);
        Assert.That(ModelLoader.ComputeDType(bfloat16, CUDA, family), Is.EqualTo(computed));
        Assert.That(ModelLoader.ComputeDType(float32, CUDA, family), Is.EqualTo(float32), "float32 stays float32");
        Assert.That(Gpus.Describe(0), Does.Contain($"capability {capability / 10}.{capability % 10}").And.Contain(capability < 80 ? "float16 with loss scaling" : "models in bfloat16"));
    }

    [Test]
    public void A_capability_that_torch_has_no_kernels_for_is_one_sentence()
    {
        PretendDevice.SetCapability(0);
        Assert.That(() => Devices.Find("cuda"), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("has no kernels for it").And.Message.Contains("Pretend GPU"));
    }

    [TestCase(true)]
    [TestCase(false)]
    public void A_bfloat16_model_learns_in_float16_what_it_does_in_float32_and_goes_on_with_its_loss_scale(bool adapter)
    {
        PretendDevice.SetCapability(75);
        using var folder = new TemporaryFolder();
        _ = TinyModel.Write(folder, dtype: bfloat16);
        _ = TinyModel.WriteRows(folder, 24);
        SilentListener Train(string name, string dtype, bool resume = false, int stopAt = 0)
        {
            using var stop = new CancellationTokenSource();
            var listener = new SilentListener
            {
                OnStep = s =>
                {
                    if (s.Step == stopAt)
                    {
                        stop.Cancel();
                    }
                },
            };
            var config = new RunConfig
            {
                OutputDir = folder.At(name),
                Model = new ModelSection { Path = folder.At("model"), Device = "cuda", Dtype = dtype },
                Adapter = adapter ? new AdapterSection { Rank = 4 } : null,
                Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], Packing = false },
                Training = new TrainingSection { MaxSteps = 6, MicroBatchSize = 3, WarmupSteps = 1, LearningRate = 5e-3 },
                Checkpoint = new CheckpointSection { EverySteps = 3 },
            };
            using var run = TrainingRun.Prepare(config, listener, new RunOptions(Resume: resume));
            _ = run.Run(overwrite: true, "test", stop.Token);
            return listener;
        }

        var half = Train("half", "auto");
        Assert.That(half.Steps.Select(static s => s.LossScale), Is.All.Not.Null);
        Assert.That(half.Steps.Select(static s => s.Skipped), Is.All.False);
        var exact = Train("exact", "float32");
        Assert.That(half.Steps.Select(static s => s.Loss), Is.EqualTo(exact.Steps.Select(static s => s.Loss)).Within(0.02));
        _ = Train("stopped", "auto", stopAt: 3);
        var rest = Train("stopped", "auto", resume: true);
        Assert.That(rest.Steps.Select(static s => (s.Step, s.Loss, s.LossScale)), Is.EqualTo(half.Steps.Skip(3).Select(static s => (s.Step, s.Loss, s.LossScale))));
    }

    [Test]
    public void The_gpus_memory_is_what_a_run_on_it_is_compared_with()
    {
        using var folder = new TemporaryFolder();
        _ = TinyModel.Write(folder);
        _ = TinyModel.WriteRows(folder, 24);
        var config = new RunConfig
        {
            OutputDir = folder.At("run"),
            Model = new ModelSection { Path = folder.At("model"), Device = "cuda" },
            Adapter = new AdapterSection { Rank = 4 },
            Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl"), Repeat = 40000 }], Packing = false },
            Training = new TrainingSection { MaxSteps = 1, MicroBatchSize = 1 << 20 },
        };
        var draft = RunDraft.Read(config, new SilentListener());
        Assert.That(draft.Memory.Room!.Where, Does.Contain("cuda:0 (Pretend GPU)"));
        Assert.That(draft.Memory.Room.Bytes, Is.LessThanOrEqualTo(8L << 30));
        Assert.That(draft.Memory.Needed, Is.EqualTo(draft.Memory.Estimate.Total - draft.Memory.Estimate.Program), "the program itself lies elsewhere");
        Assert.That(draft.Config.Training.WorstBatchFirst, Is.True, "on a GPU unless it is said");
        var refusal = Assert.Throws<ConfigException>(() => TrainingRun.Prepare(config, new SilentListener()))!;
        Assert.That(refusal.Message, Does.Contain("training.micro_batch_size="));
        Assert.That(AvailableMemory.Share, Is.EqualTo(0.95));
    }
}
