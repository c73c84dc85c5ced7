using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Gguf.Families;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>Mixtures of experts and latent attention in GGUF: what llama.cpp cannot say is refused, and what is written in other types is read again.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class GgufMixtureTests
{
    private static readonly int[] s_ids = [.. Enumerable.Range(0, 20).Select(static i => (3 + (i * 29)) % 256)];

    [TestCase("olmoe", "num_key_value_heads", "2")]
    [TestCase("olmoe", "norm_topk_prob", "true")]
    [TestCase("olmoe", "clip_qkv", "4.0")]
    [TestCase("dots1", "num_key_value_heads", "2")]
    [TestCase("dots1", "layer_types", """["full_attention", "sliding_attention", "full_attention"]""")]
    [TestCase("glm4_moe", "n_shared_experts", "0")]
    [TestCase("ernie4_5_moe", "moe_layer_interval", "2")]
    [TestCase("ernie4_5_moe", "moe_layer_end_index", "1")]
    [TestCase("afmoe", "mup_enabled", "false")]
    [TestCase("afmoe", "layer_types", """["full_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention"]""")]
    [TestCase("mellum", "norm_topk_prob", "false")]
    [TestCase("mellum", "rope_parameters", """{"full_attention": {"rope_type": "default", "rope_theta": 9000.0}, "sliding_attention": {"rope_type": "default", "rope_theta": 500.0}}""")]
    [TestCase("mimo_v2_flash", "routed_scaling_factor", "2.0")]
    [TestCase("llama4_text", "no_rope_layers", "[1, 0, 1, 0]")]
    [TestCase("llama4_text", "use_qk_norm", "false")]
    [TestCase("llama4_text", "attention_chunk_size", "8")]
    [TestCase("llama4_text", "moe_layers", "[1, 2]")]
    [TestCase("gpt_oss", "swiglu_limit", "5.0")]
    [TestCase("gpt_oss", "layer_types", """["full_attention", "sliding_attention", "full_attention", "sliding_attention"]""")]
    [TestCase("minicpm3", "scale_emb", "4")]
    [TestCase("minicpm3", "dim_model_base", "32")]
    [TestCase("deepseek_v3", "rope_interleave", "false")]
    [TestCase("deepseek_v3", "attention_bias", "true")]
    [TestCase("glm4_moe_lite", "mlp_layer_types", """["sparse", "dense", "sparse"]""")]
    public void What_llama_cpp_computes_otherwise_is_refused_by_name(string family, string setting, string value)
    {
        using var work = new TemporaryFolder();
        var folder = ModelFolder.Open(GgufCases.Write(work, family, (setting, JsonNode.Parse(value))));
        Assert.That(() => GgufExport.Write(folder, null, work["model.gguf"], GgufPreset.Of("f32")), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(setting).And.Message.Contains("llama.cpp"));
        Assert.That(work.Names, Has.None.Contains("gguf"));
    }

    [Test]
    public void Groups_of_which_the_best_expert_counts_are_refused()
    {
        using var work = new TemporaryFolder();
        var folder = ModelFolder.Open(GgufCases.Write(work, "deepseek_v2", ("topk_method", "group_limited_greedy"), ("n_group", 4), ("topk_group", 2)));
        Assert.That(() => GgufExport.Write(folder, null, work["model.gguf"], GgufPreset.Of("f32")), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("topk_method"));
    }

    [TestCase("deepseek_v3", "kv_b_proj")]
    [TestCase("deepseek_v3", "q_a_proj")]
    [TestCase("deepseek_v2", "q_proj")]
    [TestCase("minicpm3", "q_b_proj")]
    [TestCase("glm4_moe", "o_proj")]
    public void A_LoRA_file_with_a_layer_that_llama_cpp_does_not_update_is_refused(string family, string module)
    {
        using var work = new TemporaryFolder();
        using var loaded = ModelLoader.Load(GgufCases.Write(work, family), float32, CPU);
        using var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 2, Targets = TargetModules.Of([module]) }, seed: 1);
        Assert.That(
            () => GgufLoraExport.Write(loaded.Folder, adapter, work["lora.gguf"]),
            Throws.InstanceOf<InvalidDataException>().With.Message.Contains(module).And.Message.Contains("--format gguf"));
    }

    [TestCase("f16", 1e-2)]
    [TestCase("bf16", 8e-2)]
    [TestCase("q8_0", 8e-2)]
    [TestCase("mxfp4_moe", 0.8)]
    public void A_file_in_fewer_bits_is_near_and_read_in_its_own_type(string dtype, double within)
    {
        foreach (var family in new[] { "gpt_oss", "deepseek_v3", "granitemoe", "llama4_text", "ernie4_5_moe" })
        {
            // With all experts in use, rounding does not change the choice.
            using var work = new TemporaryFolder();
            var folder = family == "deepseek_v3" ? GgufCases.Write(work, family, ("num_experts_per_tok", 8), ("n_group", 1), ("topk_group", 1)) : GgufCases.Write(work, family);
            using var loaded = ModelLoader.Load(folder, float32, CPU);
            _ = GgufExport.Write(loaded.Folder, null, work["model.gguf"], GgufPreset.Of(dtype));
            using var again = Unpacked(work, "model.gguf");
            var (expected, actual) = (Logits(loaded.Model), Logits(again.Model));
            var difference = expected.Zip(actual, static (e, a) => Math.Abs(e - a)).Average() / expected.Average(Math.Abs);
            TestContext.Out.WriteLine($"{family} {dtype}: {difference:0.0e0}");
            Assert.That(difference, Is.InRange(1e-6, within), family);
            using var weights = again.Folder.OpenWeights();
            Assert.That(ModelLoader.StoredDType(weights), Is.EqualTo(dtype switch { "f16" => ScalarType.Float16, "bf16" => ScalarType.BFloat16, _ => ScalarType.Float32 }), family);
        }
    }

    [TestCase("gpt_oss", "mxfp4_moe")]
    [TestCase("gpt_oss", "q8_0")]
    [TestCase("deepseek_v3", "bf16")]
    [TestCase("granitemoeshared", "f16")]
    [TestCase("mistral4", "q8_0")]
    public void A_file_that_is_read_and_written_again_is_the_same_to_the_last_bit(string family, string dtype)
    {
        using var work = new TemporaryFolder();
        _ = GgufExport.Write(ModelFolder.Open(GgufCases.Write(work, family)), null, work["first.gguf"], GgufPreset.Of(dtype));
        GgufFolder.Unpack(work["first.gguf"], work.Folder("unpacked"));
        var folder = ModelFolder.Open(work["unpacked"]);

        // Once copied as it is, and once made of the values that are read.
        foreach (var preset in new[] { GgufExport.OwnPreset(folder), GgufPreset.Of(dtype) })
        {
            _ = GgufExport.Write(folder, null, work["second.gguf"], preset);
            using var first = GgufFile.Open(work["first.gguf"]);
            using var second = GgufFile.Open(work["second.gguf"]);
            Assert.That(second.Tensors.Select(static t => t.ToString()).Order(), Is.EqualTo(first.Tensors.Select(static t => t.ToString()).Order()));
            foreach (var tensor in first.Tensors)
            {
                Assert.That(Bytes(second, second.GetTensor(tensor.Name)).AsSpan().SequenceEqual(Bytes(first, tensor)), tensor.ToString());
            }

            foreach (var (key, value) in first.Metadata.Where(k => k.Key.StartsWith($"{first.Metadata.Text("general.architecture")}.", StringComparison.Ordinal)))
            {
                Assert.That(second.Metadata.Find(key), Is.EqualTo(value), key);
            }
        }
    }

    [Test]
    public void GPT_OSSs_bounds_between_whole_dimensions_are_written_with_a_warning_and_read_again()
    {
        using var work = new TemporaryFolder();
        var rule = JsonNode.Parse("""{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "truncate": false}""");
        using var loaded = ModelLoader.Load(GgufCases.Write(work, "gpt_oss", ("rope_scaling", rule)), float32, CPU);
        Assert.That(RopeScaling.IsRoundedInLlamaCpp(new ConfigJson(loaded.Folder.TextConfig, "config.json")));
        _ = GgufExport.Write(loaded.Folder, null, work["model.gguf"], GgufPreset.Of("f32"));
        using var again = Unpacked(work, "model.gguf");
        Assert.That(Logits(loaded.Model).Zip(Logits(again.Model), static (e, a) => Math.Abs(e - a)).Max(), Is.LessThan(1e-5));
    }

    [Test]
    public void Phi_MoE_is_refused_and_read()
    {
        using var work = new TemporaryFolder();
        var source = GgufCases.Write(
            work, "mixtral", ("model_type", "phimoe"), ("attention_bias", true), ("lm_head_bias", true), ("num_local_experts", 4), ("max_position_embeddings", 64),
            ("rope_scaling", JsonNode.Parse("""{"type": "longrope", "short_factor": [1, 1.1, 1.2, 1.3], "long_factor": [1, 2, 3, 4], "short_mscale": 1.2, "long_mscale": 1.2, "original_max_position_embeddings": 16}""")));
        using var loaded = ModelLoader.Load(source, float32, CPU);
        Assert.That(() => GgufExport.Write(loaded.Folder, null, work["model.gguf"], GgufPreset.Of("f32")), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("SparseMixer"));
        WritePhiMoe(loaded, work["model.gguf"]);
        using var again = Unpacked(work, "model.gguf");
        Assert.That(Logits(loaded.Model).Zip(Logits(again.Model), static (e, a) => Math.Abs(e - a)).Max(), Is.LessThan(1e-5));
    }

    // As llama.cpp's own converter lays it out.
    private static void WritePhiMoe(LoadedModel loaded, string path)
    {
        var metadata = new GgufMetadata(path) { { "general.architecture", "phimoe" }, { "tokenizer.ggml.model", "no_vocab" } };
        foreach (var (key, value) in new (string, object)[]
        {
            ("context_length", 64u), ("embedding_length", 32u), ("block_count", 3u), ("feed_forward_length", 64u), ("attention.head_count", 4u), ("attention.head_count_kv", 2u),
            ("attention.layer_norm_rms_epsilon", 1e-5f), ("rope.freq_base", 1e6f), ("expert_count", 4u), ("expert_used_count", 2u), ("rope.scaling.original_context_length", 16u),
            ("rope.scaling.attn_factor", 1.2f),
        })
        {
            metadata.Add($"phimoe.{key}", value);
        }

        var family = GgufFamilies.OfModelType("phimoe", "config.json");
        using var weights = loaded.Folder.OpenWeights();
        var tensors = new List<GgufTensorToWrite> { Vector("rope_factors_long.weight", 1, 2, 3, 4), Vector("rope_factors_short.weight", 1, 1.1f, 1.2f, 1.3f) };
        var stored = weights.Tensors.SelectMany(t => family.Facts.Layout!.PartsOf(t.Name, t.Shape).Select(part => (t.Name, Part: part)));
        foreach (var group in stored.GroupBy(p => family.TryToGguf(p.Part.Name, out var place) ? place.Name : throw new InvalidDataException(p.Part.Name)))
        {
            var parts = group.OrderBy(static p => p.Part.Name, StringComparer.Ordinal).ToList();
            IReadOnlyList<long> shape = parts.Count > 1 ? [parts.Count, .. parts[0].Part.Shape] : parts[0].Part.Shape;
            tensors.Add(new GgufTensorToWrite(group.Key, GgufType.F32, shape, stream => parts.ForEach(part =>
            {
                var bytes = new byte[part.Part.Shape.Aggregate(1L, static (product, size) => product * size) * sizeof(float)];
                weights.CopyTo(part.Name, part.Part.First * sizeof(float), bytes);
                stream.Write(bytes);
            })));
        }

        GgufWriter.Write(path, metadata, tensors);
    }

    private static GgufTensorToWrite Vector(string name, params float[] values) => new(name, GgufType.F32, [values.Length], stream => stream.Write(MemoryMarshal.AsBytes<float>(values)));

    private static LoadedModel Unpacked(TemporaryFolder work, string file)
    {
        var folder = work.Folder($"{file} unpacked");
        GgufFolder.Unpack(work[file], folder);
        return ModelLoader.Load(folder, float32, CPU);
    }

    private static byte[] Bytes(GgufFile file, GgufTensorInfo tensor)
    {
        var bytes = new byte[tensor.ByteLength];
        file.ReadBytes(tensor, 0, bytes);
        return bytes;
    }

    private static double[] Logits(CausalLanguageModel model)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var ids = tensor(Array.ConvertAll(s_ids, static i => (long)i), [1, s_ids.Length]);
        return [.. MemoryMarshal.Cast<byte, double>(model.Logits(model.call(ModelInput.Rows(ids))).to(float64).contiguous().bytes)];
    }
}
