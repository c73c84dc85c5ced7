using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Tests;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.PretendCuda.Tests;

/// <summary>What a training step asks of the device: it is handed the work and waited for once.</summary>
public sealed class StepTests
{
    private static IEnumerable<TestCaseData> Runs()
    {
        yield return new TestCaseData((RunConfig c) => c).SetArgDisplayNames("LoRA");
        yield return new TestCaseData((RunConfig c) => c with { Adapter = null }).SetArgDisplayNames("full");
        yield return new TestCaseData((RunConfig c) => c with { Adapter = null, Model = c.Model with { Dtype = "bfloat16" } }).SetArgDisplayNames("full bfloat16");
        yield return new TestCaseData((RunConfig c) => c with { Adapter = c.Adapter! with { UseDora = true, LoraDropout = 0.1 } }).SetArgDisplayNames("DoRA with dropout");
        yield return new TestCaseData((RunConfig c) => c with { Data = c.Data with { Packing = true, MaxLength = 64 } }).SetArgDisplayNames("packed");
        yield return new TestCaseData((RunConfig c) => c with { Quantization = new QuantizationSection() }).SetArgDisplayNames("nf4");
        yield return new TestCaseData((RunConfig c) => c with { Quantization = new QuantizationSection { Type = "int8" } }).SetArgDisplayNames("int8");
        yield return new TestCaseData((RunConfig c) => c with { Training = c.Training with { ActivationCheckpointing = "block" } }).SetArgDisplayNames("checkpointing");
        yield return new TestCaseData((RunConfig c) => c with { Training = c.Training with { ActivationCheckpointing = "selective", Offload = "activations" } }).SetArgDisplayNames("offloaded activations");
        yield return new TestCaseData((RunConfig c) => c with { Training = c.Training with { Optimizer = "adafactor" } }).SetArgDisplayNames("Adafactor");
        yield return new TestCaseData((RunConfig c) => c with { Training = c.Training with { Optimizer = "adamw_8bit" } }).SetArgDisplayNames("8-bit AdamW");
        foreach (var optimizer in new[] { "adafactor_torch", "lion_8bit", "ademamix", "muon", "schedule_free_adamw", "paged_adamw" })
        {
            yield return new TestCaseData((RunConfig c) => c with { Adapter = null, Training = c.Training with { Optimizer = optimizer, Min8bitSize = 1024 } }).SetArgDisplayNames(optimizer);
        }

        yield return new TestCaseData((RunConfig c) => c with { Training = c.Training with { Ema = new EmaSection() } }).SetArgDisplayNames("moving average");
        yield return new TestCaseData((RunConfig c) => c with { Adapter = null, Model = c.Model with { Dtype = "bfloat16" }, Training = c.Training with { LowPrecision = "stochastic_rounding" } }).SetArgDisplayNames("stochastic rounding");
    }

    [TestCaseSource(nameof(Runs))]
    public void A_step_waits_for_the_device_once(Func<RunConfig, RunConfig> change)
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 24);
        var waits = new List<(long Step, List<string> Reasons)>();
        var listener = new SilentListener
        {
            OnStep = step =>
            {
                waits.Add((step.Step, PretendDevice.Waits ?? []));
                PretendDevice.Waits = [];
            },
        };
        var config = change(new RunConfig
        {
            OutputDir = folder.At("run"),
            Model = new ModelSection { Path = folder.At("model"), Device = "cuda" },
            Adapter = new AdapterSection { Rank = 4 },
            Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], Packing = false },
            Training = new TrainingSection { MaxSteps = 4, MicroBatchSize = 3, GradientAccumulationSteps = 2 },
            Checkpoint = new CheckpointSection { EverySteps = 0 },
        });
        long unpinned;
        using (var run = TrainingRun.Prepare(config, listener))
        {
            unpinned = PretendDevice.Count(PretendDevice.Counted.CopiesInUnpinned);
            _ = run.Run(overwrite: false, "test", CancellationToken.None);
            unpinned = PretendDevice.Count(PretendDevice.Counted.CopiesInUnpinned) - unpinned;
        }

        PretendDevice.Waits = null;
        Assert.That(unpinned, Is.Zero, "all that goes to the device goes from pinned memory");
        foreach (var (step, reasons) in waits.Skip(1))
        {
            Assert.That(reasons, Has.Count.EqualTo(1), $"step {step} waits {reasons.Count} times:\n{string.Join('\n', reasons.Select(Where).GroupBy(static r => r).Select(static g => $"{g.Count()} x {g.Key}"))}");
        }
    }

    [Test]
    public void Products_are_in_TensorFloat32_beside_a_bfloat16_model_alone()
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        foreach (var (dtype, allowed) in new[] { (bfloat16, true), (float32, false) })
        {
            using var loaded = ModelLoader.Load(folder.At("model"), dtype, CUDA);
            Assert.That(backends.cuda.matmul.allow_tf32, Is.EqualTo(allowed));
        }
    }

    // The reason and the library's own frames.
    private static string Where(string reason)
    {
        var lines = reason.Split('\n');
        var frames = lines.Skip(1).Where(static l => l.Contains("OpenWeights.Tune.", StringComparison.Ordinal) && !l.Contains("PretendCuda", StringComparison.Ordinal)).Take(4);
        return $"{lines[0]}\n{string.Join('\n', frames)}";
    }
}
