using System.Text.Json.Nodes;
using NUnit.Framework;
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

/// <summary>Adapters of PEFT's other kinds, as PEFT 0.21 wrote them: logits, losses, gradients, merged weights, and the files themselves.</summary>
[Category(TestDevice.Parity)]
public sealed class KindGoldenTests
{
    private const string Set = "adapters2026";

    internal static IEnumerable<string> Modules => SharedFiles.Present(
        ["kind_ia3"],
        "goldens", Set);

    [TestCaseSource(nameof(Modules))]
    public void Logits_losses_and_gradients_are_PEFTs(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        foreach (var (run, json) in golden.Runs)
        {
            using var scope = NewDisposeScope();
            var logits = loaded.Model.Logits(loaded.Model.call(Golden.Input(json)));
            if (golden.Tensors.TryGetTensor($"{run}.logits", out _))
            {
                Assert.That(Golden.LargestDifference(logits, golden.Tensor($"{run}.logits"), Golden.Ids(json["attention_mask"]!)), Is.LessThan(5e-5), $"{run}: logits");
            }

            var loss = Golden.Loss(logits, Golden.Ids(json["labels"]!));
            Assert.That(loss.ToDouble(), Is.EqualTo(json["loss"]!.GetValue<double>()).Within(1e-5).Percent, $"{run}: loss");
            loss.backward();
            Gradients(golden, adapter, run, json);
        }

        Assert.That(loaded.Model.parameters().All(static p => p.grad is null), "the base has no gradients");
    }

    [TestCaseSource(nameof(Modules))]
    [Category(TestDevice.CpuAlone)]
    public void An_adapter_that_is_read_and_written_again_has_the_same_bytes(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var work = new TemporaryFolder();
        using (var adapter = PeftFolder.Load(loaded.Model, golden.Folder))
        {
            PeftFolder.Save(adapter, work.At("adapter"), "elsewhere");
        }

        Assert.That(File.ReadAllBytes(work.At("adapter", "adapter_model.safetensors")), Is.EqualTo(File.ReadAllBytes(Path.Combine(golden.Folder, "adapter_model.safetensors"))));
        var (written, given) = (Settings(work.At("adapter")), Settings(golden.Folder));
        _ = written.Remove("base_model_name_or_path");
        _ = given.Remove("base_model_name_or_path");
        Assert.That(JsonNode.DeepEquals(written, given), $"{written}\n{given}");
    }

    [TestCaseSource(nameof(Modules))]
    [Category(TestDevice.CpuAlone)]
    public void The_merged_weights_are_PEFTs(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        using var merged = SafetensorsFile.Open(Path.Combine(golden.Folder, "merged.safetensors"));
        using var weights = loaded.Folder.OpenWeights();
        using var scope = NewDisposeScope();
        Assert.That(adapter.ChangedTensors, Is.EquivalentTo(golden.Json["merged_changed"]!.AsArray().Select(static n => n!.ToString())));
        foreach (var tensor in merged.Tensors.Select(static t => t.Name))
        {
            var difference = Golden.LargestDifference(adapter.Merged(tensor, TensorFiles.Read(weights, tensor, float32)), TensorFiles.Read(merged, tensor));
            Assert.That(difference, Is.LessThan(2e-6), tensor);
        }
    }

    [TestCaseSource(nameof(Modules))]
    public void The_merged_model_has_the_adapters_logits(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        using var mix = new CombinedAdapter([(adapter, 1)]);
        using var work = new TemporaryFolder();
        _ = MergedExport.Write(loaded, mix, work.At("merged"), null, long.MaxValue);
        using var merged = ModelLoader.Load(work.At("merged"), float32, TestDevice.Current);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var ids = Golden.Ids(golden.Json["runs"]!["full"]!["input_ids"]!);
        var logits = merged.Model.Logits(merged.Model.call(ModelInput.Rows(ids)));
        var expected = golden.Tensor(golden.Tensors.TryGetTensor("merged.logits", out _) ? "merged.logits" : "full.logits");
        Assert.That(Golden.LargestDifference(logits, expected), Is.LessThan(5e-5));
    }

    [TestCaseSource(nameof(Modules))]
    [Category(TestDevice.CpuAlone)]
    public void Mixed_half_and_half_with_nothing_it_is_the_mean_of_the_base_and_the_merged_weights(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        using var half = new CombinedAdapter([(adapter, 0.5)]);
        using var work = new TemporaryFolder();
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var ids = ModelInput.Rows(Golden.Ids(golden.Json["runs"]!["full"]!["input_ids"]!));
        half.Enable(loaded.Model);
        var mixed = loaded.Model.Logits(loaded.Model.call(ids));
        CombinedAdapter.Disable(loaded.Model);
        _ = MergedExport.Write(loaded, half, work.At("merged"), null, long.MaxValue);
        using var merged = ModelLoader.Load(work.At("merged"), float32, TestDevice.Current);
        Assert.That(Golden.LargestDifference(merged.Model.Logits(merged.Model.call(ids)), mixed), Is.LessThan(5e-5));
    }

    internal static LoadedModel Base(Golden golden) => ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, TestDevice.Current);

    private static JsonObject Settings(string folder) => JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "adapter_config.json")))!.AsObject();

    private static void Gradients(Golden golden, PeftAdapter adapter, string run, JsonNode json)
    {
        var total = Math.Sqrt(adapter.Parameters.Sum(static p => Math.Pow(p.Parameter.grad!.norm().ToDouble(), 2)));
        Assert.That(total, Is.EqualTo(json["grad_norm_total"]!.GetValue<double>()).Within(2e-3).Percent, $"{run}: norm of all gradients");
        foreach (var (key, expected) in json["grad_norms"]?.AsObject() ?? [])
        {
            var (name, parameter) = adapter.Parameters.Single(p => Live(key) == p.Name);
            Assert.That(parameter.grad!.norm().ToDouble(), Is.EqualTo(expected!.GetValue<double>()).Within(2e-5 * Math.Max(1, expected.GetValue<double>())), key);
            if (golden.Tensors.TryGetTensor($"{run}.grad.{key}", out _))
            {
                Assert.That(Golden.LargestDifference(parameter.grad!, golden.Tensor($"{run}.grad.{key}")), Is.LessThan(2e-5 * Math.Max(1, expected.GetValue<double>())), name);
            }
        }

        foreach (var (_, parameter) in adapter.Parameters)
        {
            parameter.grad!.zero_();
        }
    }

    // The reference keeps PEFT's live names, which have the adapter's name in them.
    private static string Live(string key)
    {
        var name = key.Replace("base_model.model.", "", StringComparison.Ordinal).Replace(".default", "", StringComparison.Ordinal);
        return name.EndsWith("vblora_vector_bank", StringComparison.Ordinal) ? "base_model.vblora_vector_bank" : name;
    }
}
