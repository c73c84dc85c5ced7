using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models.Families;

/// <summary>Families with latent attention, and Gemma 3n and 4: new models, quantization, and settings that are refused.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class LateFamilyTests
{
    private static readonly string[] s_families = ["minicpm3", "deepseek_v2", "deepseek_v3", "glm4_moe_lite", "mistral4", "gemma4_text", "gemma3n_text"];

    private static readonly int[] s_text = [5, 9, 2, 7, 7, 31, 12, 8, 1, 30, 22, 3, 4, 19];

    [TestCaseSource(nameof(s_families))]
    public void A_new_models_config_is_read_and_its_model_begins_at_even_odds(string family)
    {
        var shape = new ModelShape { HiddenSize = 32, IntermediateSize = 48, Layers = 7, Heads = 4, KeyValueHeads = 2, VocabularySize = 64, MaxPositions = 128, TiedEmbeddings = false, Experts = 4, ExpertsPerToken = 2 };
        var config = FamilyRegistry.Read(FamilyRegistry.Find(family, "config.json").NewConfig(shape), "config.json");
        using var weights = new RandomWeightSource(1, config.InitializerRange, float32, TestDevice.Current);
        using var model = new CausalLanguageModel(config, weights);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var loss = nn.functional.cross_entropy(Logits(model, null, 0, s_text.Length).view(-1, 64), tensor([.. s_text.Select(static i => (long)i)]).to(TestDevice.Current));
        Assert.That(loss.ToDouble(), Is.EqualTo(Math.Log(64)).Within(0.7));
    }

    [TestCaseSource(nameof(s_families))]
    public void A_quantized_model_with_an_adapter_computes_the_same_from_a_cache(string family)
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(FamilyCases.Write(folder, family), float32, TestDevice.Current, new QuantizationSettings(QuantizationKind.Nf4));
        using var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 2 }, seed: 1);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        _ = manual_seed(1);
        adapter.Layers.ToList().ForEach(static l => l.B.normal_(0, 0.1));
        var whole = Logits(loaded.Model, null, 0, s_text.Length);
        using var cache = new DecoderCache();
        for (int read = 0, count = 9; read < s_text.Length; read += count, count = 1)
        {
            Assert.That(Golden.LargestDifference(Logits(loaded.Model, cache, read, count), whole.narrow(1, read, count)), Is.LessThan(1e-4), $"{count} tokens after {read}");
        }
    }

    [TestCase("gemma4_text")]
    [TestCase("gemma3n_text")]
    public void Key_weights_of_layers_that_use_anothers_keys_are_ignored(string family)
    {
        using var folder = new TemporaryFolder();
        var path = FamilyCases.Write(folder, family);
        using var model = FamilyCases.Make(family);
        var last = $"model.layers.{model.Config.LayerCount - 1}.self_attn";
        using var extra = ones([8, 16]);
        File.Delete(Path.Combine(path, "model.safetensors"));
        _ = CheckpointWriter.Write(
            path, [.. model.StoredTensors.Select(static t => TensorFiles.ToWrite(t.Name, t.Tensor)), TensorFiles.ToWrite($"{last}.k_proj.weight", extra), TensorFiles.ToWrite($"{last}.v_proj.weight", extra)]);
        using var loaded = ModelLoader.Load(path, float32, TestDevice.Current);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        Assert.That(Golden.LargestDifference(Logits(loaded.Model, null, 0, 9), Logits(model, null, 0, 9)), Is.Zero);
    }

    [TestCase("gemma4_text", "use_bidirectional_attention", "\"all\"")]
    [TestCase("gemma4_text", "per_layer_config", """{"2": {"sliding_window": 9}}""")]
    [TestCase("gemma4_text", "num_kv_shared_layers", "6")]
    [TestCase("gemma3n_text", "num_kv_shared_layers", "4")]
    [TestCase("gemma3n_text", "altup_active_idx", "3")]
    [TestCase("gemma3n_text", "activation_sparsity_pattern", "[0.5]")]
    [TestCase("deepseek_v2", "norm_topk_prob", "true")]
    [TestCase("deepseek_v2", "topk_method", "\"noaux_tc\"")]
    [TestCase("deepseek_v3", "moe_layer_freq", "2")]
    [TestCase("deepseek_v3", "scoring_func", "\"softmax\"")]
    [TestCase("deepseek_v3", "num_key_value_heads", "2")]
    [TestCase("mistral4", "partial_rotary_factor", "0.75")]
    [TestCase("minicpm3", "qk_rope_head_dim", "3")]
    public void A_setting_that_would_compute_something_else_is_refused(string family, string setting, string value)
    {
        var config = FamilyCases.Config(family);
        config[setting] = JsonNode.Parse(value);
        Assert.That(() => FamilyRegistry.Read(config, "config.json"), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(setting));
    }

    private static Tensor Logits(CausalLanguageModel model, DecoderCache? cache, int past, int count) => model.Logits(model.call(new ModelInput
    {
        InputIds = tensor([.. s_text[past..(past + count)].Select(static i => (long)i)], [1, count], device: TestDevice.Current),
        PositionIds = arange(past, past + count, int64, TestDevice.Current).unsqueeze(0),
        LongestPosition = past + count - 1,
        Cache = cache,
    }));
}
