using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Testing;
using OpenWeights.Tune.Init;
using OpenWeights.Tune.Layers.Rope;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Models.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models.Families;

/// <summary>config.json: what published models have in theirs is read, and what would change the maths is refused by name.</summary>
public sealed class ConfigTests
{
    [TestCase("llama", "hidden_act", "\"softsign\"", "hidden_act: activation 'softsign'")]
    [TestCase("llama", "attn_logit_softcapping", "30.0", "attn_logit_softcapping (30.0)")]
    [TestCase("llama", "sliding_window", "16", "sliding_window (16)")]
    [TestCase("llama", "partial_rotary_factor", "0.5", "partial_rotary_factor (0.5)")]
    [TestCase("llama", "quantization_config", "{\"bits\": 4}", "quantization_config")]
    [TestCase("llama", "qk_layernorm", "true", "qk_layernorm (true)")]
    [TestCase("llama", "position_embedding_type", "\"alibi\"", "position_embedding_type")]
    [TestCase("llama", "layer_types", "[\"linear_attention\"]", "layer_types")]
    [TestCase("llama", "rope_scaling", "{\"rope_type\": \"linear\"}", "rope_scaling: factor: this setting is missing")]
    [TestCase("llama", "rope_scaling", "{\"rope_type\": \"default\", \"section_factor\": [16, 24, 24]}", "rope_scaling: section_factor")]
    [TestCase("mistral", "attention_bias", "true", "attention_bias (true)")]
    [TestCase("mistral", "sliding_window", "-1", "sliding_window: a whole number above zero")]
    [TestCase("qwen2", "layer_types", "[\"full_attention\", \"chunked_attention\", \"full_attention\"]", "layer_types: 'chunked_attention' is not supported")]
    [TestCase("qwen2", "layer_types", "[\"full_attention\"]", "layer_types: it lists 1 layers")]
    [TestCase("qwen2_moe", "num_experts_per_tok", "9", "num_experts_per_tok: 9 is more than num_experts")]
    [TestCase("mixtral", "router_jitter_noise", "0.1", "router_jitter_noise")]
    [TestCase("gemma", "hidden_activation", "\"softsign\"", "hidden_activation: activation 'softsign'")]
    [TestCase("gemma2", "query_pre_attn_scalar", "0", "query_pre_attn_scalar: a number above zero")]
    [TestCase("gemma3_text", "use_bidirectional_attention", "true", "use_bidirectional_attention (true)")]
    [TestCase("phi3", "resid_pdrop", "0.1", "resid_pdrop")]
    [TestCase("phi3", "rope_scaling", "{\"rope_type\": \"linear\", \"factor\": 2.0}", "rope_scaling")]
    [TestCase("phi3_longrope", "rope_scaling", "{\"type\": \"longrope\", \"short_factor\": [1.0], \"long_factor\": [1.0]}", "short_factor has 1 numbers, but 3 are needed")]
    [TestCase("phi3_longrope", "partial_rotary_factor", "0.4", "partial_rotary_factor: 3 of 8 dimensions")]
    [TestCase("granite", "logits_scaling", "0", "logits_scaling")]
    [TestCase("olmo2", "clip_qkv", "8.0", "clip_qkv (8.0)")]
    [TestCase("smollm3", "no_rope_layers", "[1, 0]", "no_rope_layers: it lists 2 layers")]
    [TestCase("smollm3", "no_rope_layers", "true", "no_rope_layers: a list or null is expected")]
    public void A_setting_that_cannot_be_followed_is_refused_by_name(string family, string key, string value, string message)
    {
        var config = FamilyCases.Config(family);
        Assert.That(() => FamilyRegistry.Read(config, "config.json"), Throws.Nothing);
        config[key] = JsonNode.Parse(value);
        Assert.That(() => FamilyRegistry.Read(config, "config.json"), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(message).And.Message.Contains("config.json"));
    }

    [Test]
    public void All_settings_that_are_not_known_are_told_at_once()
    {
        var config = FamilyCases.Config("llama");
        (config["parallel_residual"], config["alibi_slopes"]) = (true, new JsonArray(1, 2));
        Assert.That(() => FamilyRegistry.Read(config, "here"), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("parallel_residual").And.Message.Contains("alibi_slopes"));
    }

    // Beyond the sizes, what stands in the config.json of published models and changes nothing, or is to be read.
    [TestCase("llama", """ "is_llama_config": true, "rope_interleaved": false, "transformers.js_config": {"dtype": "q4"}, "pretraining_tp": 2, "_flash_attn_2_enabled": true """)]
    [TestCase("llama", """ "eos_token_id": [128001, 128008], "unsloth_fixed": true, "max_sequence_length": 4096, "tokenizer_class": "LlamaTokenizer", "temperature": 0.9 """)]
    [TestCase("qwen2", """ "use_mrope": false, "max_window_layers": 21, "rope_scaling": null """)]
    [TestCase("qwen3_moe", """ "max_window_layers": 48, "mlp_only_layers": [], "router_aux_loss_coef": 0.001, "output_router_logits": false """)]
    [TestCase("gemma2", """ "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "cache_implementation": "hybrid", "sliding_window_size": 4096 """)]
    [TestCase("gemma3_text", """ "attn_logit_softcapping": null, "final_logit_softcapping": null, "use_bidirectional_attention": false, "_sliding_window_pattern": 6 """)]
    [TestCase("phi3_longrope", """ "attention_bias": false, "embd_pdrop": 0.0, "full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": false, "mlp_bias": false, "sliding_window": 262144 """)]
    [TestCase("smollm3", """ "max_window_layers": 28, "no_rope_layer_interval": 4, "pretraining_tp": 2, "layer_types": ["full_attention", "full_attention", "full_attention", "full_attention"] """)]
    public void What_published_configs_have_is_read(string family, string more)
    {
        var config = FamilyCases.Config(family);
        foreach (var (key, value) in JsonNode.Parse($"{{{more}}}")!.AsObject())
        {
            config[key] = value?.DeepClone();
        }

        Assert.That(() => FamilyRegistry.Read(config, "config.json"), Throws.Nothing);
    }

    [TestCase("qwen2", "qwen2")]
    [TestCase("tinyllama-1.1b-chat", "llama")]
    [TestCase("tinyllama-1.1b-chat-v5-layout", "llama")]
    public void Published_configs_are_read(string folder, string family)
    {
        var path = SharedFiles.Require("fixtures", "tokenizers", folder, "config.json");
        var json = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
        Assert.That(FamilyRegistry.Read(json, path).ModelType, Is.EqualTo(family));
    }

    [Test]
    public void Layers_of_Gemma_3_have_the_same_settings_in_the_layout_of_transformers_5()
    {
        var old = FamilyRegistry.Read(FamilyCases.Config("gemma3_text"), "old");
        var config = FamilyCases.Config("gemma3_text");
        foreach (var key in new[] { "rope_theta", "rope_local_base_freq", "rope_scaling", "sliding_window_pattern" })
        {
            _ = config.Remove(key);
        }

        config["layer_types"] = new JsonArray("sliding_attention", "full_attention", "sliding_attention", "full_attention");
        config["rope_parameters"] = JsonNode.Parse(
            """
            {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5000.0}, "sliding_attention": {"rope_type": "default", "rope_theta": 100.0}}
            """);
        var current = FamilyRegistry.Read(config, "new");
        for (var i = 0; i < old.LayerCount; i++)
        {
            var (expected, actual) = (old.Layer(i), current.Layer(i));
            Assert.That((actual.SlidingWindow, actual.Rope!.Kind, actual.Rope.Theta, actual.Rope.Factor), Is.EqualTo((expected.SlidingWindow, expected.Rope!.Kind, expected.Rope.Theta, expected.Rope.Factor)));
        }

        Assert.That(old.Layer(1).Rope!.Kind, Is.EqualTo(RopeKind.Linear));
    }

    [Test]
    public void A_list_of_layer_types_counts_more_than_the_pattern()
    {
        var config = FamilyCases.Config("gemma2");
        config["layer_types"] = new JsonArray("full_attention", "sliding_attention", "sliding_attention");
        var decoder = FamilyRegistry.Read(config, "config.json");
        Assert.That(Enumerable.Range(0, 3).Select(i => decoder.Layer(i).SlidingWindow), Is.EqualTo(new int?[] { null, 4, 4 }));
    }

    [Test]
    public void Every_family_can_be_made_and_read_again([ValueSource(nameof(Families))] string family)
    {
        using var folder = new TemporaryFolder();
        var shape = new ModelShape { HiddenSize = 16, IntermediateSize = 24, Heads = 2, KeyValueHeads = 1, VocabularySize = 30, MaxPositions = 32, TiedEmbeddings = false };
        var count = NewModel.Write(family, shape, seed: 1, float32, folder.At("new"), addTokenizer: null);
        using var loaded = ModelLoader.Load(folder.At("new"), null, TestDevice.Current);
        Assert.That(loaded.Model.parameters().Sum(static p => p.numel()), Is.EqualTo(count));
        Assert.That(ModelFolder.Open(folder.At("new")).Config["architectures"]![0]!.ToString(), Is.EqualTo(FamilyRegistry.Find(family, "test").Facts.ClassName));
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var logits = loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(tensor(new long[] { 1, 2, 3 }, [1, 3]))));
        Assert.That(logits.isfinite().all().ToBoolean());
    }

    private static IEnumerable<string> Families() => FamilyRegistry.All.Select(static f => f.ModelType);

    [Test]
    public void Every_family_of_the_table_can_be_read_and_no_other() =>
        Assert.That(FamilyRegistry.All.Select(static f => f.ModelType), Is.EquivalentTo(FamilyTable.All.Select(static f => f.ModelType)));
}
