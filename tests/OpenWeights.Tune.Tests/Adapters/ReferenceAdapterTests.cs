using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>Adapters that PEFT wrote: logits, gradients, merged weights, and the files themselves.</summary>
public sealed class ReferenceAdapterTests
{
    private static readonly string[] s_cases = ["lora_qv", "lora_all_linear", "lora_rslora", "lora_patterns", "lora_regex_target", "lora_tied"];

    [TestCaseSource(nameof(s_cases))]
    public void Logits_losses_and_gradients_are_PEFTs(string name)
    {
        using var golden = new Golden(name);
        using var loaded = ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, CPU);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        using var scope = NewDisposeScope();
        var run = golden.Json["runs"]!["full"]!;
        var ids = Golden.Ids(run["input_ids"]!);
        var labels = Golden.Ids(run["labels"]!);
        var logits = loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(ids)));
        Assert.That(Golden.LargestDifference(logits, golden.Tensor("full.logits")), Is.LessThan(3e-5));
        var loss = nn.functional.cross_entropy(
            logits.narrow(1, 0, ids.size(1) - 1).reshape(-1, logits.size(2)), labels.narrow(1, 1, ids.size(1) - 1).reshape(-1));
        Assert.That(loss.ToDouble(), Is.EqualTo(run["loss"]!.GetValue<double>()).Within(1e-5));
        loss.backward();
        foreach (var (parameter, tensor) in adapter.Parameters)
        {
            var key = "base_model.model." + parameter.Replace(".weight", ".default.weight", StringComparison.Ordinal);
            var expected = run["grad_norms"]![key]!.GetValue<double>();
            Assert.That(tensor.grad!.norm().ToDouble(), Is.EqualTo(expected).Within(1e-5 * Math.Max(1, expected)), key);
        }

        Assert.That(loaded.Model.parameters().All(static p => p.grad is null), "the base has no gradients");
        adapter.Enabled = false;
        using (no_grad())
        {
            var plain = loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(ids)));
            Assert.That(Golden.LargestDifference(plain, golden.Tensor("disabled.logits")), Is.LessThan(3e-5));
        }
    }

    [TestCaseSource(nameof(s_cases))]
    public void An_adapter_that_is_read_and_written_again_has_the_same_weights_and_settings(string name)
    {
        using var golden = new Golden(name);
        using var loaded = ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, CPU);
        var folder = Path.Combine(TestContext.CurrentContext.WorkDirectory, "adapters", name);
        using (var adapter = PeftFolder.Load(loaded.Model, golden.Folder))
        {
            PeftFolder.Save(adapter, folder, "base");
        }

        Assert.That(File.ReadAllBytes(Path.Combine(folder, "adapter_model.safetensors")), Is.EqualTo(File.ReadAllBytes(Path.Combine(golden.Folder, "adapter_model.safetensors"))));
        using var again = PeftFolder.Load(loaded.Model, folder);
        Assert.That(again.Enabled);
    }

    [TestCaseSource(nameof(s_cases))]
    public void The_update_added_to_the_base_is_PEFTs_merged_weight(string name)
    {
        using var golden = new Golden(name);
        using var loaded = ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, CPU);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        using var merged = SafetensorsFile.Open(Path.Combine(golden.Folder, "merged.safetensors"));
        using var scope = NewDisposeScope();
        foreach (var layer in adapter.Layers)
        {
            var weight = loaded.Model.LinearLayers.Single(l => l.Name == layer.Module).Layer.Weight;
            Assert.That(Golden.LargestDifference(weight.add(layer.Delta()), TensorFiles.Read(merged, $"{layer.Module}.weight")), Is.LessThan(1e-6), layer.Module);
        }
    }
}
