using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Quantization;

/// <summary>A base that is held quantised does whatever the same base with the quantised values in full does.</summary>
[Category(TestDevice.Parity)]
public sealed class QuantizedModelTests
{
    [TestCase("nf4", false, "true", Category = TestDevice.CpuAlone)]
    [TestCase("nf4", true, "true")]
    [TestCase("nf4", false, "pissa", Category = TestDevice.CpuAlone)]
    [TestCase("int8", false, "true")]
    [TestCase("int8", true, "true", Category = TestDevice.CpuAlone)]
    public void Training_on_it_is_training_on_its_values(string kind, bool dora, string start)
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 12);
        WriteValues(folder, kind);
        var section = new AdapterSection { Rank = 4, UseDora = dora, InitLoraWeights = start, ModulesToSave = ["norm"] };
        var quantized = Run(folder, "quantized", section, new QuantizationSection { Type = kind }, "model", checkpointing: "block");
        var dense = Run(folder, "dense", section, null, "values", checkpointing: "none");
        Assert.That(quantized.Select(static s => s.Loss), Is.EqualTo(dense.Select(static s => s.Loss)).Within(1e-5));
        Assert.That(quantized.Select(static s => s.GradNorm), Is.EqualTo(dense.Select(static s => s.GradNorm)).Within(1e-3).Percent);
        Assert.That(quantized[^1].Loss, Is.LessThan(quantized[0].Loss));
    }

    [TestCase("nf4")]
    [TestCase("int8")]
    public void An_adapter_merges_into_its_values(string kind)
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        using var loaded = ModelLoader.Load(folder.At("model"), float32, TestDevice.Current, QuantizationSettings.Of(kind));
        using var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 4, UseDora = true }, seed: 1);
        using (no_grad())
        {
            foreach (var layer in adapter.Layers)
            {
                _ = layer.B.normal_(0, 0.1);
            }
        }

        using var mix = new CombinedAdapter([(adapter, 1)]);
        _ = MergedExport.Write(loaded, mix, folder.At("merged"), null, long.MaxValue);
        Assert.That(MergedExport.Verify(loaded, folder.At("merged")).Difference, Is.LessThan(1e-5));
    }

    [Test]
    public void The_head_and_the_embedding_stay_as_they_are_and_all_parameters_are_counted()
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder, tied: false);
        using var dense = ModelLoader.Load(folder.At("model"), float32, TestDevice.Current);
        using var loaded = ModelLoader.Load(folder.At("model"), float32, TestDevice.Current, new QuantizationSettings(QuantizationKind.Nf4));
        Assert.That(loaded.Model.ParameterCount, Is.EqualTo(dense.Model.ParameterCount));
        Assert.That(loaded.Model.Head.Quantized, Is.Null);
        Assert.That(loaded.Model.LinearLayers.Where(static l => l.Name != "lm_head").All(static l => l.Layer.Quantized is not null));
        Assert.That(loaded.Model.ParameterBytes, Is.LessThan(dense.Model.ParameterBytes / 2));
    }

    [Test]
    public void Generation_and_loading_leave_no_tensor_behind()
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        long After()
        {
            using (var loaded = ModelLoader.Load(folder.At("model"), bfloat16, TestDevice.Current, new QuantizationSettings(QuantizationKind.Nf4)))
            using (var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 4, UseDora = true }, seed: 1))
            using (no_grad())
            using (NewDisposeScope())
            {
                _ = loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(tensor(new long[] { 1, 2, 3 }, [1, 3], device: TestDevice.Current))));
            }

            return TestDevice.LiveTensors;
        }

        var first = After();
        Assert.That(After(), Is.LessThanOrEqualTo(first));
    }

    [Test]
    public void Steps_leave_no_tensor_behind()
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 12);
        var counts = new List<long>();
        foreach (var checkpointing in new[] { "none", "block", "selective" })
        {
            _ = Run(folder, $"run{checkpointing}", new AdapterSection { Rank = 4, UseDora = true, LoraDropout = 0.1, ModulesToSave = ["lm_head"] }, new QuantizationSection(), "model", checkpointing, counts.Add);
            Assert.That(counts[^1], Is.LessThanOrEqualTo(counts[^3]));
        }
    }

    // The same model with the values that quantisation leaves, written in full by merging nothing into it.
    private static void WriteValues(TemporaryFolder folder, string kind)
    {
        using var loaded = ModelLoader.Load(folder.At("model"), float32, TestDevice.Current, QuantizationSettings.Of(kind));
        using var nothing = new CombinedAdapter([]);
        _ = MergedExport.Write(loaded, nothing, folder.At("values"), null, long.MaxValue);
    }

    private static List<StepMetrics> Run(TemporaryFolder folder, string name, AdapterSection adapter, QuantizationSection? quantization, string model, string checkpointing, Action<long>? count = null)
    {
        var listener = new SilentListener { OnStep = _ => count?.Invoke(Tensor.TotalCount) };
        var config = new RunConfig
        {
            OutputDir = folder.At(name),
            Model = new ModelSection { Path = folder.At(model), Device = TestDevice.Name },
            Adapter = adapter,
            Quantization = quantization,
            Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], MaxLength = 64, Packing = true },
            Training = new TrainingSection { MaxSteps = 6, MicroBatchSize = 4, LearningRate = 1e-2, WarmupSteps = 0, ActivationCheckpointing = checkpointing },
        };
        using var run = TrainingRun.Prepare(config, listener);
        _ = run.Run(overwrite: false, "test", CancellationToken.None);
        return listener.Steps;
    }
}
