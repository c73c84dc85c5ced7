using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Quantization;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models.Families;

/// <summary>State space models and their hybrids: adapters on quantized models, layers that take no adapter, and settings that are refused.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class StateSpaceFamilyTests
{
    private static readonly int[] s_text = [5, 9, 2, 7, 7, 31, 12, 8, 1, 30, 22, 3, 4, 19];

    [Test]
    public void An_adapter_on_a_quantized_model_is_trained(
        [Values("mamba2", "bamba", "falcon_h1", "granitemoehybrid", "granitemoehybrid_dense", "nemotron_h", "nemotron_h_latent", "jamba")] string name)
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(FamilyCases.Write(folder, name), float32, TestDevice.Current, new QuantizationSettings(QuantizationKind.Nf4));
        using var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 2 }, seed: 1);
        using var scope = NewDisposeScope();
        adapter.Training = true;
        double Loss() => new SupervisedObjective().LossSum(loaded.Model, Batch()).ToDouble();
        var before = Loss();
        new SupervisedObjective().LossSum(loaded.Model, Batch()).backward();
        using (no_grad())
        {
            foreach (var (_, parameter) in adapter.Parameters)
            {
                Assert.That(parameter.grad!.isfinite().all().ToBoolean());
                _ = parameter.add_(parameter.grad, -1e-3);
            }
        }

        Assert.That(Loss(), Is.LessThan(before));
    }

    [TestCase("mamba2", "out_proj")]
    [TestCase("falcon_h1", "out_proj")]
    [TestCase("nemotron_h", "out_proj")]
    [TestCase("jamba", "dt_proj")]
    public void A_layer_whose_adapter_PEFT_refuses_or_ignores_is_refused_by_name_and_not_among_all_linear(string family, string layer)
    {
        using var model = FamilyCases.Make(family);
        Assert.That(
            () => PeftAdapter.Create(model, new LoraConfig { Rank = 2, Targets = TargetModules.Of([layer, "in_proj"]) }, seed: 1),
            Throws.InstanceOf<InvalidDataException>().With.Message.Contains($"{layer} takes no adapter in this family"));
        using var adapter = PeftAdapter.Create(model, new LoraConfig { Rank = 2 }, seed: 1);
        Assert.That(adapter.Layers.Select(static l => l.Module), Has.None.EndsWith(layer).And.Some.EndsWith("in_proj"));
    }

    [TestCase("mamba2", "hidden_act", "\"gelu\"")]
    [TestCase("mamba2", "num_heads", "4")]
    [TestCase("mamba2", "n_groups", "3")]
    [TestCase("mamba2", "time_step_limit", "[0.5, 0.1]")]
    [TestCase("bamba", "attn_layer_indices", "[3]")]
    [TestCase("bamba", "mamba_d_head", "3")]
    [TestCase("bamba", "hidden_act", "\"gelu\"")]
    [TestCase("falcon_h1", "ssm_multipliers", "[1.0, 2.0]")]
    [TestCase("falcon_h1", "mamba_n_heads", "7")]
    [TestCase("granitemoehybrid", "layer_types", "[\"mamba\", \"attention\", \"conv\"]")]
    [TestCase("granitemoehybrid", "position_embedding_type", "\"alibi\"")]
    [TestCase("granitemoehybrid", "normalization_function", "\"layernorm\"")]
    [TestCase("granitemoehybrid_dense", "shared_intermediate_size", "0")]
    [TestCase("nemotron_h", "layers_block_type", "[\"mamba\", \"conv\"]")]
    [TestCase("nemotron_h", "mamba_hidden_act", "\"gelu\"")]
    [TestCase("nemotron_h", "sliding_window", "16")]
    [TestCase("nemotron_h", "rms_norm_eps", "0.1")]
    [TestCase("jamba", "attn_layer_offset", "3")]
    [TestCase("jamba", "mamba_inner_layernorms", "false")]
    [TestCase("jamba", "num_experts_per_tok", "5")]
    public void A_setting_that_cannot_be_followed_is_refused_by_name(string family, string setting, string value)
    {
        var config = FamilyCases.Config(family);
        config[setting] = JsonNode.Parse(value);
        Assert.That(() => FamilyRegistry.Read(config, "config.json"), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(setting));
    }

    [TestCase("MM*-E", "linear_attention linear_attention full_attention mlp moe")]
    public void Nemotrons_pattern_says_what_the_list_of_layers_says(string pattern, string types)
    {
        var (old, current) = (FamilyCases.Config("nemotron_h"), FamilyCases.Config("nemotron_h"));
        _ = old.Remove("layers_block_type");
        old["hybrid_override_pattern"] = pattern;
        current["layers_block_type"] = new JsonArray([.. types.Split(' ').Select(static t => (JsonNode)t)]);
        var (expected, actual) = (FamilyRegistry.Read(current, "config.json"), FamilyRegistry.Read(old, "config.json"));
        Assert.That(actual.Layers.Select(static l => (l.Parts, l.Mixer?.GetType(), l.FeedForward?.GetType())), Is.EqualTo(expected.Layers.Select(static l => (l.Parts, l.Mixer?.GetType(), l.FeedForward?.GetType()))));
    }

    private static TokenBatch Batch() => TokenBatch.Of([new TokenRow(s_text, s_text, "text")], padId: 0, TestDevice.Current);
}
