using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Quantization;

/// <summary>Checkpoints that are quantised already, against what transformers computes with the weights that the packers' libraries unpack.</summary>
[Category(TestDevice.Parity)]
public sealed class PackedCheckpointTests
{
    private const string Set = "adapters2026";

    private static IEnumerable<string> Cases => SharedFiles.FindNames("dequantised.safetensors", "goldens", Set).Select(static name => Path.GetDirectoryName(name)!);

    private static IEnumerable<string> WithAdapter => Cases.Where(static name => SharedFiles.Find("goldens", Set, name, "lora") is not null);

    [TestCaseSource(nameof(Cases))]
    public void Logits_are_the_references_with_packed_and_with_unpacked_weights(string name)
    {
        using var golden = new Golden(name, Set);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var input = ModelInput.Rows(Golden.Ids(golden.Json["input_ids"]!).to(TestDevice.Current));
        using var kept = ModelLoader.Load(golden.Folder, float32, TestDevice.Current);
        using var unpacked = ModelLoader.Load(golden.Folder, float32, TestDevice.Current, keepsPacked: false);
        Assert.That((kept.Model.Quantized.Any(), unpacked.Model.Quantized.Any()), Is.EqualTo((true, false)));
        foreach (var model in new[] { kept.Model, unpacked.Model })
        {
            Assert.That(Golden.LargestDifference(model.Logits(model.call(input)), golden.Tensor("logits")), Is.LessThan(3e-5 * TestDevice.Slack));
        }
    }

    [TestCaseSource(nameof(Cases))]
    [Category(TestDevice.CpuAlone)]
    public void Packed_layers_take_the_bytes_of_the_file_and_have_its_values(string name)
    {
        var folder = SharedFiles.Require("goldens", Set, name);
        using var loaded = ModelLoader.Load(folder, float32, CPU);
        using var weights = loaded.Folder.OpenWeights();
        var stored = weights.PackedTensors.Sum(static tensor => tensor.ByteLength);
        Assert.That(loaded.Model.Quantized.Sum(static weight => weight.ByteLength), Is.InRange(0.6 * stored, 1.02 * stored));
        using var scope = NewDisposeScope();
        foreach (var (layerName, layer) in loaded.Model.LinearLayers.Where(static l => l.Layer.Quantized is not null))
        {
            var expected = TensorFiles.Read(weights, $"{layerName}.weight");
            var quantized = layer.Quantized!;
            Assert.That(quantized.Rows(0, layer.OutFeatures, float32).eq(expected).all().item<bool>(), layerName);
            Assert.That(quantized.Rows(3, 5, bfloat16).eq(expected.narrow(0, 3, 5).to(bfloat16)).all().item<bool>(), layerName);

            // As on a device without the kernel.
            if (quantized.Packed is { } packed)
            {
                Assert.That(packed.ReadByOperators(1, packed.Rows - 1, float32).eq(packed.Read(1, packed.Rows - 1, float32)).all().item<bool>(), layerName);
            }
        }
    }

    [TestCaseSource(nameof(WithAdapter))]
    public void An_adapter_on_a_packed_base_has_PEFTs_logits_and_gradients(string name)
    {
        using var golden = new Golden(name, Set);
        foreach (var keeps in new[] { true, false })
        {
            using var loaded = ModelLoader.Load(golden.Folder, float32, TestDevice.Current, keepsPacked: keeps);
            using var adapter = PeftFolder.Load(loaded.Model, Path.Combine(golden.Folder, "lora"));
            using var scope = NewDisposeScope();
            var run = golden.Json["lora"]!;
            var logits = loaded.Model.Logits(loaded.Model.call(Golden.Input(run)));
            Assert.That(Golden.LargestDifference(logits, golden.Tensor("lora.logits")), Is.LessThan(3e-5 * TestDevice.Slack));
            Golden.Loss(logits, Golden.Ids(run["labels"]!)).backward();
            foreach (var (parameterName, parameter) in adapter.Parameters.Select(static p => (p.Name, p.Parameter)))
            {
                var key = $"lora.grad.base_model.model.{parameterName.Replace(".weight", ".default.weight", StringComparison.Ordinal)}";
                var expected = golden.Tensor(key);
                Assert.That(Golden.LargestDifference(parameter.grad!, expected), Is.LessThan(1e-5 * Math.Max(1, expected.norm().ToDouble()) * TestDevice.Slack), key);
            }
        }
    }

    [TestCaseSource(nameof(Cases))]
    [Category(TestDevice.CpuAlone)]
    public void A_model_of_shapes_alone_knows_how_much_packed_weights_take(string name)
    {
        var folder = ModelFolder.Open(SharedFiles.Require("goldens", Set, name));
        using var loaded = ModelLoader.Load(folder.FolderPath, float32, CPU);
        using var shapes = ModelLoader.Shapes(folder, loaded.Model.Config, float32, CPU, null);
        var held = loaded.Model.Quantized.Sum(static weight => weight.ByteLength);
        Assert.That(shapes.Model.Quantized.Sum(static weight => weight.ByteLength), Is.InRange(held, 1.4 * held));
        Assert.That(shapes.Model.ParameterCount, Is.EqualTo(loaded.Model.ParameterCount));
        using var unpacked = ModelLoader.Shapes(folder, loaded.Model.Config, float32, CPU, null, keepsPacked: false);
        Assert.That(unpacked.Model.ParameterBytes, Is.EqualTo(4 * loaded.Model.ParameterCount));
    }

    [TestCaseSource(nameof(Cases))]
    [Category(TestDevice.CpuAlone)]
    public void An_exported_base_is_stored_in_full_in_the_models_dtype(string name)
    {
        var folder = SharedFiles.Require("goldens", Set, name);
        using var work = new TemporaryFolder();
        MergedExport.Write(ModelFolder.Open(folder), work.At("full"), null, long.MaxValue);
        var written = ModelFolder.Open(work.At("full"));
        Assert.That(written.Config.ContainsKey("quantization_config"), Is.False);
        using var source = ModelFolder.Open(folder).OpenWeights();
        using var weights = written.OpenWeights();
        Assert.That(weights.Quantization, Is.Null);
        Assert.That(weights.Tensors.Select(static t => t.Name), Is.EquivalentTo(source.Tensors.Select(static t => t.Name)));
        var dtype = ModelLoader.StoredDType(source);
        Assert.That(dtype, Is.EqualTo(Devices.DType((written.Config["dtype"] ?? written.Config["torch_dtype"])!.ToString())));
        using var scope = NewDisposeScope();
        foreach (var tensor in source.Tensors.Where(static t => t.IsQuantized))
        {
            Assert.That(TensorFiles.Read(weights, tensor.Name).dtype, Is.EqualTo(dtype));
            Assert.That(TensorFiles.Read(weights, tensor.Name).eq(TensorFiles.Read(source, tensor.Name).to(dtype)).all().item<bool>(), tensor.Name);
        }
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void Weights_that_are_quantized_already_are_not_quantized_again_unless_they_are_unpacked()
    {
        var folder = SharedFiles.Require("goldens", Set, "quant_gptq_asym_desc_act");
        var settings = QuantizationSettings.Of("nf4");
        Assert.That(
            () => ModelLoader.Load(folder, float32, CPU, settings),
            Throws.TypeOf<InvalidDataException>().With.Message.Contains("quantized already (gptq: 4 bits").And.Message.Contains("dequantize"));
        using var again = ModelLoader.Load(folder, float32, CPU, settings, keepsPacked: false);
        Assert.That(again.Model.Quantized, Is.Not.Empty.And.All.TypeOf<Nf4Weight>());
    }
}
