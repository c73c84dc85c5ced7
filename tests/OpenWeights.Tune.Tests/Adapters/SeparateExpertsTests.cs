using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>Adapters of stacked experts, written with an update of each expert as PEFT did before.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class SeparateExpertsTests
{
    private const string Set = "adapters2026";

    [TestCase("lora_v4_experts_mixtral")]
    [TestCase("lora_v4_experts_qwen3moe")]
    public void An_adapter_of_earlier_PEFT_becomes_itself_again(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var work = new TemporaryFolder();
        using (var adapter = PeftFolder.Load(loaded.Model, golden.Folder))
        {
            SeparateExperts.Save(adapter, work.At("separate"), null);
        }

        using var ours = SafetensorsFile.Open(work.At("separate", "adapter_model.safetensors"));
        using var theirs = SafetensorsFile.Open(Path.Combine(golden.Folder, "adapter_model.safetensors"));
        Assert.That(ours.Tensors.Select(static t => t.Name), Is.EquivalentTo(theirs.Tensors.Select(static t => t.Name)));
        foreach (var tensor in theirs.Tensors)
        {
            Assert.That(ours.ReadBytes(tensor.Name), Is.EqualTo(theirs.ReadBytes(tensor.Name)), tensor.Name);
        }

        var (written, given) = (Json(work.At("separate")), Json(golden.Folder));
        foreach (var key in new[] { "target_modules", "r", "lora_alpha", "rank_pattern", "alpha_pattern" })
        {
            Assert.That(written[key]!.ToJsonString(), Is.EqualTo(given[key]!.ToJsonString()), key);
        }
    }

    [TestCase("lora_params_qwen3moe")]
    [TestCase("lora_params_rank_pattern_qwen3moe")]
    [TestCase("lora_params_router_qwen3moe")]
    [TestCase("lora_all_linear_qwen3moe")]
    public void Updates_of_each_expert_give_the_logits_of_the_stacked_ones(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var work = new TemporaryFolder();
        using (var adapter = PeftFolder.Load(loaded.Model, golden.Folder))
        {
            SeparateExperts.Save(adapter, work.At("separate"), null);
        }

        using var written = SafetensorsFile.Open(work.At("separate", "adapter_model.safetensors"));
        Assert.That(written.Tensors.Select(static t => t.Name), Has.Some.Contains(".experts.3.up_proj.lora_A.weight"));
        using var read = PeftFolder.Load(loaded.Model, work.At("separate"));
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var logits = loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(Golden.Ids(golden.Json["runs"]!["full"]!["input_ids"]!))));
        Assert.That(Golden.LargestDifference(logits, golden.Tensor("full.logits")), Is.LessThan(3e-5));
    }

    [Test]
    public void A_family_without_layers_of_single_experts_is_refused()
    {
        using var golden = new Golden("lora_params_gptoss", Set);
        using var loaded = Base(golden);
        using var work = new TemporaryFolder();
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        Assert.That(() => SeparateExperts.Save(adapter, work.At("separate"), null), Throws.TypeOf<InvalidDataException>().With.Message.Contains("--experts stacked"));
    }

    private static JsonObject Json(string folder) => JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "adapter_config.json")))!.AsObject();

    private static LoadedModel Base(Golden golden) => ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, CPU);
}
