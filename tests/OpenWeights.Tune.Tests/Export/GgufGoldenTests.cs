using System.Text.Json;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.LlamaCpp;
using OpenWeights.Testing;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Tests.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>Models of transformers 5 as GGUF: llama.cpp, and this library from the file, give transformers' logits; what llama.cpp computes otherwise is refused.</summary>
public sealed class GgufGoldenTests
{
    // llama.cpp tabulates their activation in half precision.
    private static readonly string[] s_tabulated = ["gpt_neox", "gemma3_whole", "gemma4_text_moe"];

    private static IEnumerable<string> Written => SharedFiles.Present(
        [
            "apertus", "bamba", "falcon_h1", "gemma3_whole", "gemma4_text_moe", "glm", "gpt_neox", "granitemoehybrid", "granitemoehybrid_dense", "helium", "internlm3", "jamba", "kimi_linear",
            "lfm2", "lfm2_moe", "mamba2", "mistral3_whole", "qwen2_5_vl_whole", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_5_whole", "qwen3_next", "qwen3_vl_whole",
        ],
        "goldens", Families2026Tests.Set);

    private static readonly (string Name, string Setting)[] s_refused =
    [
        ("gemma3n_text", "laurel_rank"), ("gemma4_text", "num_kv_shared_layers"), ("gemma4_whole", "num_kv_shared_layers"), ("granite_swa", "model_type"), ("lfm3", "model_type"),
        ("nanochat", "model_type"), ("nemotron_h", "layers_block_type"), ("olmo_hybrid", "model_type"), ("vaultgemma", "model_type"),
    ];

    private static IEnumerable<object[]> Refused => SharedFiles.Present([.. s_refused.Select(static r => r.Name)], "goldens", Families2026Tests.Set).Select(static name => new object[] { name, s_refused.Single(r => r.Name == name).Setting });

    [TestCaseSource(nameof(Written))]
    public void Llama_cpp_and_the_files_reader_give_the_references_logits(string name)
    {
        RequiredLlamaCpp.Check();
        using var golden = new Golden(name, Families2026Tests.Set);
        using var work = new TemporaryFolder();
        _ = GgufExport.Write(ModelFolder.Open(golden.Folder), null, work["model.gguf"], GgufPreset.Of("f32"));
        var run = golden.Json["runs"]!["full"]!;
        var expected = golden.Tensor("full.logits").to(float32);
        var largest = Math.Max(1, expected.abs().max().ToDouble());
        using (var model = new LlamaModel(work["model.gguf"]))
        {
            using var scope = NewDisposeScope();
            var rows = run["input_ids"]!.AsArray().Select(row => model.Logits([.. row!.AsArray().Select(static id => (int)id!)]));
            var actual = stack([.. rows.Select(static row => tensor(row.SelectMany(static v => v).ToArray(), [row.Length, row[0].Length]))]);
            Assert.That(Golden.LargestDifference(actual, expected), Is.LessThan((s_tabulated.Contains(name) ? 2e-3 : 1e-4) * largest), "llama.cpp");
        }

        GgufFolder.Unpack(work["model.gguf"], work.Folder("read"));
        using var loaded = ModelLoader.Load(work["read"], float32, CPU);
        using var nothing = no_grad();
        using var ours = loaded.Model.Logits(loaded.Model.call(Golden.Input(run)));
        Assert.That(Golden.LargestDifference(ours, expected), Is.LessThan(1e-4 * largest), "read back");
    }

    [TestCaseSource(nameof(Refused))]
    public void What_llama_cpp_computes_otherwise_is_refused_and_nothing_is_written(string name, string setting)
    {
        using var golden = new Golden(name, Families2026Tests.Set);
        using var work = new TemporaryFolder();
        Assert.That(
            () => GgufExport.Write(ModelFolder.Open(golden.Folder), null, work["model.gguf"], GgufPreset.Of("f32")),
            Throws.InstanceOf<InvalidDataException>().With.Message.Contains($"{setting}: "));
        Assert.That(work["model.gguf"], Does.Not.Exist);
    }

    [TestCase("jamba", "mamba_expand", "4", "mamba_expand")]
    [TestCase("falcon_h1", "mamba_rms_norm", "true", "mamba_norm_before_gate")]
    [TestCase("falcon_h1", "time_step_limit", "[0.001, 0.1]", "time_step_limit")]
    [TestCase("lfm2_moe", "norm_topk_prob", "false", "norm_topk_prob")]
    [TestCase("qwen3_next", "norm_topk_prob", "false", "norm_topk_prob")]
    [TestCase("qwen3_5", "linear_value_head_dim", "16", "linear_value_head_dim")]
    [TestCase("mamba2", "use_conv_bias", "false", "use_conv_bias")]
    [TestCase("nemotron_h", "time_step_min", "0.01", "time_step_min")]
    [TestCase("gemma3n_text", "num_kv_shared_layers", "4", "num_kv_shared_layers")]
    [TestCase("gemma3_text", "layer_types", """["full_attention", "sliding_attention", "full_attention", "full_attention", "full_attention", "full_attention", "full_attention"]""", "layer_types")]
    public void A_setting_that_llama_cpp_does_not_compute_is_refused_by_name(string name, string key, string value, string named)
    {
        using var work = new TemporaryFolder();
        var folder = ModelFolder.Open(GgufCases.Write(work, name, (key, JsonNode.Parse(value))));
        Assert.That(
            () => GgufExport.Write(folder, null, work["model.gguf"], GgufPreset.Of("f32")), Throws.InstanceOf<InvalidDataException>().With.Message.Contains($"{named}: ").And.Message.Contains("llama.cpp"));
    }

    [TestCase("gemma3n_text", "per_layer_model_projection")]
    [TestCase("kimi_linear", "self_attn.q_proj")]
    [TestCase("nemotron_h_latent", "fc1_latent_proj")]
    public void A_LoRA_file_that_llama_cpp_would_not_apply_is_refused(string name, string module)
    {
        using var work = new TemporaryFolder();
        using var loaded = ModelLoader.Load(GgufCases.Write(work, name), float32, CPU);
        using var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 2, Targets = TargetModules.AllLinear }, seed: 1);
        Assert.That(
            () => GgufLoraExport.Write(loaded.Folder, adapter, work["lora.gguf"]),
            Throws.InstanceOf<InvalidDataException>().With.Message.Contains(module).And.Message.Contains("--format gguf"));
    }

    [Test]
    public void Qwen_3_5s_vocabulary_makes_llama_cpps_tokens_and_is_written_under_its_name()
    {
        var folder = GgufFolder.UnpackTokenizer(SharedFiles.Require("fixtures", "gguf-vocab", "ggml-vocab-qwen35.gguf"));
        var inputs = File.ReadAllText(SharedFiles.Require("fixtures", "tokenizer-cases", "ggml-vocab-qwen35.gguf.inp")).Split("\n__ggml_vocab_test__\n");
        var outputs = File.ReadAllText(SharedFiles.Require("fixtures", "tokenizer-cases", "ggml-vocab-qwen35.gguf.out")).Split('\n');
        var tokenizer = Tokenizer.Load(folder);
        Assert.That(
            inputs.Select(text => tokenizer.Encode(text, addSpecialTokens: false)), Is.EqualTo(inputs.Select((_, i) => outputs[i].Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(int.Parse))));
        var path = Path.Combine(folder, "tokenizer.json");
        using var json = JsonDocument.Parse(File.ReadAllText(path));
        Assert.That(PreTokenizers.NameOf(json.RootElement, path), Is.EqualTo("qwen35"));
    }
}
