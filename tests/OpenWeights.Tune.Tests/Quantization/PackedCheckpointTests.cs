using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Layers.Rope;
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
        using var work = new TemporaryFolder();
        var folder = WithTheReferencesRotation(golden, work);
        var input = ModelInput.Rows(Golden.Ids(golden.Json["input_ids"]!).to(TestDevice.Current));
        using var kept = ModelLoader.Load(folder, float32, TestDevice.Current);
        using var unpacked = ModelLoader.Load(folder, float32, TestDevice.Current, keepsPacked: false);
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
        Assert.That(loaded.Model.Quantized.Sum(static weight => weight.ByteLength), Is.InRange(0.85 * stored, 1.1 * stored));
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

    [TestCaseSource(nameof(Cases))]
    [Category(TestDevice.CpuAlone)]
    public void A_few_tokens_give_the_products_of_many(string name)
    {
        using var loaded = ModelLoader.Load(SharedFiles.Require("goldens", Set, name), float32, CPU);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        _ = manual_seed(11);
        foreach (var weight in loaded.Model.Quantized)
        {
            var (many, dense) = (randn([8, weight.InFeatures]), weight.Rows(0, weight.OutFeatures, float32));
            foreach (var rows in new[] { 1, 3, 8 })
            {
                var states = many.narrow(0, 0, rows);
                Assert.That(Golden.LargestDifference(QuantizedProduct.Forward(states, weight), states.mm(dense.t())), Is.LessThan(1e-4));
            }
        }
    }

    [TestCaseSource(nameof(WithAdapter))]
    public void An_adapter_on_a_packed_base_has_PEFTs_logits_and_gradients(string name)
    {
        using var golden = new Golden(name, Set);
        using var work = new TemporaryFolder();
        var folder = WithTheReferencesRotation(golden, work);
        foreach (var keeps in new[] { true, false })
        {
            using var loaded = ModelLoader.Load(folder, float32, TestDevice.Current, keepsPacked: keeps);
            using var adapter = PeftFolder.Load(loaded.Model, Path.Combine(golden.Folder, "lora"));
            using var scope = NewDisposeScope();
            var run = golden.Json["lora"]!;
            var logits = loaded.Model.Logits(loaded.Model.call(Golden.Input(run)));
            Assert.That(Golden.LargestDifference(logits, golden.Tensor("lora.logits"), Golden.Ids(run["attention_mask"]!)), Is.LessThan(3e-5 * TestDevice.Slack));
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
        Assert.That(shapes.Model.Quantized.Sum(static weight => weight.ByteLength), Is.InRange(0.95 * held, 1.2 * held));
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

    [TestCase("quant_bnb_nf4", "nf4")]
    [Category(TestDevice.CpuAlone)]
    public void NF4_is_written_as_bitsandbytes_writes_it_to_the_last_byte(string name, string quantization)
    {
        // The values of packed weights have the same codes and scales again.
        var folder = SharedFiles.Require("goldens", Set, name);
        using var work = new TemporaryFolder();
        Export(folder, work.At("again"), quantization);
        using var expected = SafetensorsFile.Open(Path.Combine(folder, "model.safetensors"));
        using var actual = SafetensorsFile.Open(work.At("again", "model.safetensors"));
        Assert.That(actual.Tensors.Select(static t => t.ToString()), Is.EquivalentTo(expected.Tensors.Select(static t => t.ToString())));
        foreach (var tensor in expected.Tensors)
        {
            Assert.That(actual.ReadBytes(tensor.Name), Is.EqualTo(expected.ReadBytes(tensor.Name)), tensor.Name);
        }

        var (settings, wanted) = (ModelFolder.Open(work.At("again")).Config["quantization_config"]!.AsObject(), ModelFolder.Open(folder).Config["quantization_config"]!.AsObject());
        Assert.That(settings.Select(static p => p.Key), Is.EqualTo(wanted.Select(static p => p.Key)));
        foreach (var (key, value) in wanted.Where(static p => p.Key != "bnb_4bit_compute_dtype"))
        {
            Assert.That(settings[key]?.ToJsonString(), Is.EqualTo(value?.ToJsonString()), key);
        }
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void Double_quantization_is_written_with_bitsandbytes_tables_and_read_with_the_values_that_were_packed()
    {
        var folder = SharedFiles.Require("goldens", Set, "quant_bnb_nf4_double");
        using var work = new TemporaryFolder();
        Export(folder, work.At("again"), "nf4_double");
        using var expected = SafetensorsFile.Open(Path.Combine(folder, "model.safetensors"));
        using var actual = SafetensorsFile.Open(work.At("again", "model.safetensors"));
        Assert.That(actual.Tensors.Select(static t => t.Name), Is.EquivalentTo(expected.Tensors.Select(static t => t.Name)));
        foreach (var tensor in expected.Tensors.Where(static t => t.Name.EndsWith("quant_map", StringComparison.Ordinal) || t.Name.EndsWith(".weight", StringComparison.Ordinal)))
        {
            Assert.That(actual.ReadBytes(tensor.Name), Is.EqualTo(expected.ReadBytes(tensor.Name)), tensor.Name);
        }

        using var source = ModelFolder.Open(folder).OpenWeights();
        using var written = ModelFolder.Open(work.At("again")).OpenWeights();
        using var scope = NewDisposeScope();
        foreach (var tensor in source.Tensors.Where(static t => t.IsQuantized))
        {
            using var packed = Nf4Weight.Of(TensorFiles.Read(source, tensor.Name), 64, doubleQuantization: true);
            Assert.That(TensorFiles.Read(written, tensor.Name).eq(packed.Rows(0, packed.OutFeatures, float32)).all().item<bool>(), tensor.Name);
        }
    }

    [TestCase("quant_mxfp4_gpt_oss", "mxfp4", 0.0)]
    [TestCase("quant_bnb_int8", "int8", 1e-6)]
    [TestCase("quant_fp8_moe", "fp8", 0.0625)]
    [TestCase("quant_fp8_block_ragged", "fp8", 1e-6)]
    [TestCase("quant_gptq_sym", "fp8", 0.0625)]
    [Category(TestDevice.CpuAlone)]
    public void Packed_weights_are_read_back_as_near_as_their_format_allows(string name, string quantization, double tolerance)
    {
        var folder = SharedFiles.Require("goldens", Set, name);
        using var work = new TemporaryFolder();
        Export(folder, work.At("again"), quantization);
        using var source = ModelFolder.Open(folder).OpenWeights();
        using var written = ModelFolder.Open(work.At("again")).OpenWeights();
        Assert.That(written.Tensors.Where(static t => t.IsQuantized).Select(static t => t.Name), Is.EquivalentTo(source.Tensors.Where(static t => t.IsQuantized).Select(static t => t.Name)));
        using var scope = NewDisposeScope();
        foreach (var tensor in source.Tensors)
        {
            var (before, after) = (TensorFiles.Read(source, tensor.Name, float32), TensorFiles.Read(written, tensor.Name, float32));

            // A float's error is relative to it, and near 0 to the largest of its block.
            var allowed = tensor.IsQuantized ? before.abs().mul((Scalar)tolerance).add(before.abs().max().mul((Scalar)(tolerance / 100))) : before.mul((Scalar)0);
            Assert.That(before.sub(after).abs().le(allowed).all().item<bool>(), tensor.Name);
        }
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void A_merged_adapter_is_in_the_weights_that_are_written_packed()
    {
        var folder = SharedFiles.Require("goldens", Set, "quant_bnb_nf4_double");
        using var work = new TemporaryFolder();
        using var loaded = ModelLoader.Load(folder, null, CPU);
        using (var adapter = PeftFolder.Load(loaded.Model, Path.Combine(folder, "lora")))
        {
            using var one = new CombinedAdapter([(adapter, 1)]);
            _ = MergedExport.Write(loaded, one, work.At("full"), float32, long.MaxValue);
            _ = MergedExport.Write(loaded, one, work.At("packed"), null, long.MaxValue, null, "nf4");
        }

        using var full = ModelFolder.Open(work.At("full")).OpenWeights();
        using var packed = ModelFolder.Open(work.At("packed")).OpenWeights();
        Assert.That(packed.Quantization, Does.StartWith("bitsandbytes: nf4"));
        using var scope = NewDisposeScope();
        foreach (var tensor in packed.Tensors.Where(static t => t.IsQuantized))
        {
            using var expected = Nf4Weight.Of(TensorFiles.Read(full, tensor.Name), 64, doubleQuantization: false);
            Assert.That(TensorFiles.Read(packed, tensor.Name).eq(expected.Rows(0, expected.OutFeatures, float32)).all().item<bool>(), tensor.Name);
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

    private static void Export(string folder, string to, string quantization)
    {
        using var loaded = ModelLoader.LoadMeta(folder);
        using var none = new CombinedAdapter([]);
        _ = MergedExport.Write(loaded, none, to, null, long.MaxValue, null, quantization);
    }

    // The reference's models were made in the dtype of the checkpoint and computed in float32 afterwards, so that their rotary frequencies are
    // rounded to that dtype, which those of a model that is loaded are not. LongRoPE's factors give any frequencies.
    private static string WithTheReferencesRotation(Golden golden, TemporaryFolder work)
    {
        var folder = ModelFolder.Open(golden.Folder);
        var decoder = ModelLoader.ReadConfig(folder);
        var (frequencies, scale) = RopeFrequencies.Compute(decoder.Rope, decoder.HeadDimension, 16);
        using var scope = NewDisposeScope();
        var stored = Devices.DType(folder.Config["dtype"]!.ToString())!.Value;
        var rounded = tensor(frequencies).to(stored).to(float64);
        var plain = Enumerable.Range(0, frequencies.Length).Select(i => Math.Pow(decoder.Rope.Theta, -2.0 * i / decoder.HeadDimension)).ToArray();
        JsonArray Factors() => new([.. plain.Select((f, i) => (JsonNode)(f / rounded[i].ToDouble()))]);
        var config = folder.Config.DeepClone().AsObject();
        config["rope_parameters"] = new JsonObject
        {
            ["rope_type"] = "longrope",
            ["rope_theta"] = decoder.Rope.Theta,
            ["factor"] = 1.0,
            ["attention_factor"] = scale,
            ["original_max_position_embeddings"] = decoder.MaxPositions,
            ["short_factor"] = Factors(),
            ["long_factor"] = Factors(),
        };
        File.WriteAllText(work.At("config.json"), config.ToJsonString());
        File.Copy(Path.Combine(golden.Folder, "model.safetensors"), work.At("model.safetensors"));
        return work.Root;
    }
}
