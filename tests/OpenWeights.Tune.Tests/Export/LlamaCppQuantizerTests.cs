using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Testing;
using OpenWeights.Tune.Export.Gguf;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>Files that are written quantised at once are those that llama.cpp's quantiser makes of the model in float32.</summary>
public sealed class LlamaCppQuantizerTests
{
    // Heads of 256 rows and rows of 256 values fill K blocks; those of 32 fall back to other types.
    [TestCase("llama", "q4_k_m", 256, 3)]
    [TestCase("llama", "q4_0", 256, 2)]
    [TestCase("llama", "q6_k", 256, 2)]
    [TestCase("llama", "q8_0", 256, 2)]
    [TestCase("llama", "q5_k_m", 256, 3)]
    [TestCase("llama", "q5_k_s", 256, 3)]
    [TestCase("llama", "q3_k_m", 256, 17)]
    [TestCase("llama", "q2_k", 256, 3)]
    [TestCase("qwen2", "q3_k_m", 256, 3)]
    [TestCase("qwen2", "q2_k", 256, 2)]
    [TestCase("mixtral", "q5_k_m", 256, 1)]
    [TestCase("mixtral", "q3_k_m", 256, 1)]
    [TestCase("mixtral", "q2_k", 256, 1)]
    [TestCase("qwen3_moe", "q3_k_m", 256, 3)]
    [TestCase("phi3", "q3_k_m", 256, 3)]
    [TestCase("phi3", "q2_k", 256, 2)]
    [TestCase("gemma2", "q5_k_m", 256, 3)]
    [TestCase("llama", "q4_k_m", 32, 80)]
    [TestCase("llama", "q6_k", 32, 3)]
    [TestCase("llama", "q2_k", 32, 3)]
    [TestCase("llama", "q3_k_m", 32, 17)]
    [TestCase("llama", "q5_k_m", 32, 3)]
    [TestCase("qwen2", "q5_k_s", 32, 3)]
    [TestCase("mixtral", "q3_k_m", 32, 2)]
    [TestCase("qwen2", "q4_k_m", 32, 80)]
    [TestCase("qwen2", "q4_0", 256, 2)]
    [TestCase("mixtral", "q4_k_m", 256, 1)]
    [TestCase("mixtral", "q4_k_m", 32, 5)]
    [TestCase("mixtral", "q4_0", 32, 2)]
    [TestCase("mixtral", "q6_k", 256, 1)]
    [TestCase("qwen2_moe", "q4_k_m", 256, 1)]
    [TestCase("qwen3_moe", "q4_k_m", 32, 5)]
    [TestCase("gpt_oss", "mxfp4_moe", 64, 2)]
    [TestCase("gpt_oss", "q4_k_m", 256, 2)]
    [TestCase("qwen3_moe", "mxfp4_moe", 64, 2)]
    [TestCase("deepseek_v3", "mxfp4_moe", 64, 2)]
    [TestCase("deepseek_v3", "q4_k_m", 256, 3)]
    [TestCase("granitemoe", "q4_k_m", 256, 2)]
    [TestCase("llama4_text", "q8_0", 64, 4)]
    [TestCase("phi3", "q4_k_m", 256, 4)]
    [TestCase("gemma2", "q4_k_m", 256, 3)]
    public void A_file_has_the_tensors_of_llama_cpps_own_quantiser(string family, string dtype, int hidden, int layers)
    {
        RequiredLlamaCpp.Check();
        using var work = new TemporaryFolder();
        var sizes = new Dictionary<string, JsonNode?> { ["hidden_size"] = hidden, ["intermediate_size"] = hidden, ["num_hidden_layers"] = layers };
        foreach (var (key, value) in family switch
        {
            "mixtral" => [("num_local_experts", 8)],
            "qwen2_moe" => [("moe_intermediate_size", hidden), ("shared_expert_intermediate_size", hidden)],
            "qwen3_moe" => [("moe_intermediate_size", hidden)],
            "deepseek_v3" => [("moe_intermediate_size", hidden), ("qk_nope_head_dim", 32), ("kv_lora_rank", 32), ("v_head_dim", 32), ("q_lora_rank", 32)],
            _ => Array.Empty<(string, int)>(),
        })
        {
            sizes[key] = value;
        }

        var folder = ModelFolder.Open(GgufCases.Write(work, family, [.. sizes.Select(static s => (s.Key, s.Value))]));
        _ = GgufExport.Write(folder, null, work["f32.gguf"], GgufPreset.Of("f32"));
        _ = GgufExport.Write(folder, null, work["ours.gguf"], GgufPreset.Of(dtype));
        Ggml.Quantize(work["f32.gguf"], work["theirs.gguf"], (int)GgufPreset.Of(dtype).FileType);

        using var expected = GgufFile.Open(work["theirs.gguf"]);
        using var actual = GgufFile.Open(work["ours.gguf"]);
        Assert.That(actual.Tensors.Select(static t => t.ToString()).Order(), Is.EqualTo(expected.Tensors.Select(static t => t.ToString()).Order()));
        Assert.That(actual.Metadata.Number("general.file_type"), Is.EqualTo(expected.Metadata.Number("general.file_type")));
        foreach (var tensor in expected.Tensors)
        {
            Assert.That(Bytes(actual, actual.GetTensor(tensor.Name)).AsSpan().SequenceEqual(Bytes(expected, tensor)), tensor.ToString());
        }
    }

    private static byte[] Bytes(GgufFile file, GgufTensorInfo tensor)
    {
        var bytes = new byte[tensor.ByteLength];
        file.ReadBytes(tensor, 0, bytes);
        return bytes;
    }
}
