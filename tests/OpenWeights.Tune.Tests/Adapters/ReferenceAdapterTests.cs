using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>Adapters that PEFT wrote: logits, gradients, merged weights, and the files themselves.</summary>
[Category(TestDevice.Parity)]
public sealed class ReferenceAdapterTests
{
    private static IEnumerable<string> Cases => Golden.Present(
        "lora_qv", "lora_all_linear", "lora_rslora", "lora_patterns", "lora_regex_target", "lora_tied", "lora_dora", "lora_dora_rslora_qv",
        "lora_embedding", "lora_modules_to_save", "lora_layers_to_transform", "lora_bias_all", "lora_bias_lora_only", "lora_gemma2", "lora_phi3_fused");

    [TestCaseSource(nameof(Cases))]
    public void Logits_losses_and_gradients_are_PEFTs(string name)
    {
        using var golden = new Golden(name);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, Folder(golden));
        using var scope = NewDisposeScope();
        var run = golden.Json["runs"]!["full"]!;
        var ids = Golden.Ids(run["input_ids"]!);
        var labels = Golden.Ids(run["labels"]!);
        var logits = loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(ids)));
        var worst = Golden.LargestDifference(logits, golden.Tensor("full.logits"));
        Assert.That(worst, Is.LessThan(3e-5));
        var loss = nn.functional.cross_entropy(
            logits.narrow(1, 0, ids.size(1) - 1).reshape(-1, logits.size(2)), labels.narrow(1, 1, ids.size(1) - 1).reshape(-1));
        Assert.That(loss.ToDouble(), Is.EqualTo(run["loss"]!.GetValue<double>()).Within(1e-5));
        loss.backward();
        var norms = run["grad_norms"]!.AsObject();
        var worstNorm = 0.0;
        foreach (var (parameter, tensor) in adapter.Parameters)
        {
            var (key, expected) = Reference(norms, parameter);
            var norm = tensor.grad!.norm().ToDouble();
            worstNorm = Math.Max(worstNorm, Math.Abs(norm - expected) / Math.Max(1, expected));
            Assert.That(norm, Is.EqualTo(expected).Within(1e-5 * Math.Max(1, expected)), key);
            if (golden.Tensors.TryGetTensor($"full.grad.{key}", out _))
            {
                Assert.That(Golden.LargestDifference(tensor.grad!, golden.Tensor($"full.grad.{key}")), Is.LessThan(1e-5 * Math.Max(1, expected)), key);
            }
        }

        Assert.That(adapter.Parameters, Has.Count.EqualTo(norms.Count), "nothing else is trained");
        Assert.That(loaded.Model.parameters().All(static p => p.grad is null), "the base has no gradients");
        TestContext.Out.WriteLine($"{name}: largest difference of a logit {worst:0.0e0}, of a gradient norm {worstNorm:0.0e0}");
    }

    [TestCaseSource(nameof(Cases))]
    [Category(TestDevice.CpuAlone)]
    public void Switched_off_the_model_is_the_base_again(string name)
    {
        using var golden = new Golden(name);
        using var loaded = Base(golden);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var ids = Golden.Ids(golden.Json["runs"]!["full"]!["input_ids"]!);
        var plain = loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(ids)));
        using var adapter = PeftFolder.Load(loaded.Model, Folder(golden));
        adapter.Enabled = false;
        var off = loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(ids)));
        Assert.That(off.eq(plain).all().item<bool>());

        // PEFT trains the base's own biases, so with them its base is another when the adapter is off; here it is the base.
        if (adapter.Config.Bias == BiasTraining.None)
        {
            Assert.That(Golden.LargestDifference(off, golden.Tensor("disabled.logits")), Is.LessThan(3e-5));
        }
    }

    [TestCaseSource(nameof(Cases))]
    [Category(TestDevice.CpuAlone)]
    public void An_adapter_that_is_read_and_written_again_has_the_same_bytes(string name)
    {
        using var golden = new Golden(name);
        using var loaded = Base(golden);
        using var work = new TemporaryFolder();
        using (var adapter = PeftFolder.Load(loaded.Model, Folder(golden)))
        {
            PeftFolder.Save(adapter, work.At("adapter"), "elsewhere");
        }

        foreach (var file in new[] { "adapter_model.safetensors", "adapter_config.json" })
        {
            Assert.That(File.ReadAllBytes(work.At("adapter", file)), Is.EqualTo(File.ReadAllBytes(Path.Combine(Folder(golden), file))), file);
        }
    }

    [TestCaseSource(nameof(Cases))]
    [Category(TestDevice.CpuAlone)]
    public void The_merged_weights_are_PEFTs(string name)
    {
        using var golden = new Golden(name);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, Folder(golden));
        using var merged = SafetensorsFile.Open(Path.Combine(golden.Folder, "merged.safetensors"));
        using var weights = loaded.Folder.OpenWeights();
        using var scope = NewDisposeScope();

        // The committed cases keep the merged tensors of the lowest layer, and the names of all.
        var names = golden.Json["merged_changed"] is { } all ? all.AsArray().Select(static n => n!.ToString()) : merged.Tensors.Select(static t => t.Name);
        Assert.That(adapter.ChangedTensors, Is.EquivalentTo(names));
        var worst = 0.0;
        foreach (var tensor in merged.Tensors.Select(static t => t.Name))
        {
            var difference = Golden.LargestDifference(adapter.Merged(tensor, TensorFiles.Read(weights, tensor, float32)), TensorFiles.Read(merged, tensor));
            worst = Math.Max(worst, difference);
            Assert.That(difference, Is.LessThan(1e-6), tensor);
        }

        TestContext.Out.WriteLine($"{name}: largest difference of a merged weight {worst:0.0e0}");
    }

    [TestCaseSource(nameof(Cases))]
    public void The_merged_model_has_the_adapters_logits(string name)
    {
        using var golden = new Golden(name);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, Folder(golden));
        using var mix = new CombinedAdapter([(adapter, 1)]);
        using var work = new TemporaryFolder();
        _ = MergedExport.Write(loaded, mix, work.At("merged"), null, long.MaxValue);
        var found = MergedExport.Verify(loaded, work.At("merged"));
        Assert.That(found.Difference, Is.LessThan(3e-5));
        Assert.That(found.Divergence, Is.LessThan(1e-9));
        using var merged = ModelLoader.Load(work.At("merged"), float32, TestDevice.Current);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var ids = Golden.Ids(golden.Json["runs"]!["full"]!["input_ids"]!);
        Assert.That(Golden.LargestDifference(merged.Model.Logits(merged.Model.call(ModelInput.Rows(ids))), golden.Tensor("merged.logits")), Is.LessThan(3e-5));
    }

    // As PEFT writes them after embeddings were changed without being named, and where the base under an update was another.
    [TestCase("lora_qv", "model.embed_tokens.weight", "model.embed_tokens.weight")]
    [TestCase("lora_qv", "lm_head.weight", "lm_head.weight")]
    [TestCase("lora_embedding", "model.embed_tokens.base_layer.weight", "model.embed_tokens.weight")]
    [TestCase("lora_embedding", "lm_head.base_layer.weight", "lm_head.weight")]
    public void Whole_embeddings_in_the_file_stand_in_the_place_of_the_bases(string name, string held, string changed)
    {
        using var golden = new Golden(name);
        using var loaded = Base(golden);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using var work = new TemporaryFolder();
        using var file = SafetensorsFile.Open(Path.Combine(golden.Folder, "adapter_model.safetensors"));
        using var weights = loaded.Folder.OpenWeights();
        var other = TensorFiles.Read(weights, changed).neg();
        var key = "base_model.model." + held;
        var tensors = file.Tensors.Where(t => t.Name != key).Select(t => TensorToWrite.FromSource(file, t.Name)).Append(TensorFiles.ToWrite(key, other));
        AdapterFolder.Write(work.At("adapter"), AdapterFolder.Open(golden.Folder).Config, [.. tensors]);
        using var adapter = PeftFolder.Load(loaded.Model, work.At("adapter"));
        PeftFolder.Save(adapter, work.At("again"), null);
        Assert.That(File.ReadAllBytes(work.At("again", "adapter_model.safetensors")), Is.EqualTo(File.ReadAllBytes(work.At("adapter", "adapter_model.safetensors"))));
        var ids = ModelInput.Rows(Golden.Ids(golden.Json["runs"]!["full"]!["input_ids"]!));
        var actual = loaded.Model.Logits(loaded.Model.call(ids));
        MergedExport.Write(loaded, adapter, work.At("merged"), null, long.MaxValue);
        Assert.That(MergedExport.Verify(loaded, work.At("merged")).Difference, Is.LessThan(3e-5));
        adapter.Enabled = false;
        using var plain = PeftFolder.Load(loaded.Model, golden.Folder);
        _ = loaded.Model.named_parameters().Single(p => p.name == changed).parameter.copy_(other);
        Assert.That(Golden.LargestDifference(actual, loaded.Model.Logits(loaded.Model.call(ids))), Is.LessThan(3e-5));
    }

    [Test]
    public void PEFTs_own_file_of_lora_only_lacks_the_biases_and_the_reader_is_told()
    {
        using var golden = new Golden("lora_bias_lora_only");
        using var loaded = Base(golden);
        var warnings = new List<string>();
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder, warnings.Add);
        Assert.That(warnings, Has.Exactly(1).Contains("biases were trained"));
    }

    private static string Folder(Golden golden) =>
        Directory.Exists(Path.Combine(golden.Folder, "with_biases")) ? Path.Combine(golden.Folder, "with_biases") : golden.Folder;

    private static LoadedModel Base(Golden golden) => ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, TestDevice.Current);

    // The reference keeps PEFT's live names, which have the adapter's name in them.
    private static (string Key, double Value) Reference(JsonObject norms, string parameter)
    {
        var name = "base_model.model." + parameter;
        foreach (var key in new[]
        {
            name,
            name + ".default",
            name + ".default.weight",
            name.Replace(".weight", ".default.weight", StringComparison.Ordinal),
            name.Replace(".weight", ".modules_to_save.default.weight", StringComparison.Ordinal),
        })
        {
            if (norms[key] is { } value)
            {
                return (key, value.GetValue<double>());
            }
        }

        throw new AssertionException($"PEFT trains no {parameter}");
    }
}
