using System.Text.Json.Nodes;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Tests.Models.Families;

/// <summary>A small model of every family, with the options that set it apart turned on.</summary>
internal static partial class FamilyCases
{
    internal const int Vocabulary = 40;

    private const string Common =
        """
        "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_hidden_layers": 3, "num_key_value_heads": 2,
        "max_position_embeddings": 64, "vocab_size": 40
        """;

    private const string Yarn = """{"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32, "beta_fast": 8, "truncate": false}""";

    private const string LongRope =
        """{"type": "longrope", "short_factor": [1.0, 1.1, 1.3], "long_factor": [1.0, 2.5, 7.0]}""";

    private static readonly Dictionary<string, string> s_configs = new()
    {
        ["llama"] = """ "model_type": "llama", "attention_bias": true, "mlp_bias": true, "head_dim": 8, "tie_word_embeddings": false """,
        ["llama_dynamic"] = """ "model_type": "llama", "rope_scaling": {"type": "dynamic", "factor": 3.0}, "max_position_embeddings": 6 """,
        ["llama_yarn"] = $""" "model_type": "llama", "rope_scaling": {Yarn}, "head_dim": 8 """,
        ["mistral"] = """ "model_type": "mistral", "sliding_window": 5, "head_dim": 8 """,
        ["mixtral"] = """ "model_type": "mixtral", "num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": 6 """,
        ["qwen2"] = """ "model_type": "qwen2", "tie_word_embeddings": true, "use_sliding_window": true, "sliding_window": 4, "max_window_layers": 1 """,
        ["qwen2_moe"] =
            """
            "model_type": "qwen2_moe", "num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 12,
            "shared_expert_intermediate_size": 20, "mlp_only_layers": [1], "norm_topk_prob": false
            """,
        ["qwen3"] = """ "model_type": "qwen3", "head_dim": 8, "attention_bias": true """,
        ["qwen3_moe"] =
            """
            "model_type": "qwen3_moe", "head_dim": 8, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 12,
            "decoder_sparse_step": 2, "norm_topk_prob": true
            """,
        ["gemma"] = """ "model_type": "gemma", "head_dim": 8, "hidden_act": "gelu" """,
        ["gemma2"] =
            """
            "model_type": "gemma2", "head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 12, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0
            """,
        ["gemma3_text"] =
            """
            "model_type": "gemma3_text", "head_dim": 8, "sliding_window": 4, "sliding_window_pattern": 2, "query_pre_attn_scalar": 12, "rope_theta": 5000.0,
            "rope_local_base_freq": 100.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "num_hidden_layers": 4
            """,
        ["phi3"] = """ "model_type": "phi3", "sliding_window": 6, "num_key_value_heads": null """,
        ["phi3_longrope"] =
            $"""
            "model_type": "phi3", "hidden_size": 32, "partial_rotary_factor": 0.75, "original_max_position_embeddings": 8, "rope_scaling": {LongRope}
            """,
        ["granite"] =
            """
            "model_type": "granite", "embedding_multiplier": 3.0, "logits_scaling": 1.7, "residual_multiplier": 0.4, "attention_multiplier": 0.3, "mlp_bias": true,
            "tie_word_embeddings": true
            """,
        ["olmo2"] = """ "model_type": "olmo2", "attention_bias": false """,
        ["smollm3"] =
            """
            "model_type": "smollm3", "num_hidden_layers": 4, "no_rope_layers": [1, 0, 1, 0], "use_sliding_window": true, "sliding_window": 5, "tie_word_embeddings": false
            """,
    };

    private static readonly Dictionary<string, string> s_all = s_configs.Concat(Dense).Concat(Mixtures).Concat(LinearAttention).Concat(StateSpace).Concat(Latent).Concat(LateGemmas).ToDictionary();

    internal static IEnumerable<string> Names => s_all.Keys;

    /// <summary>The families that <see cref="Float64Decoder"/> computes.</summary>
    internal static IEnumerable<string> Defined => s_configs.Keys;

    internal static JsonObject Config(string name)
    {
        var config = JsonNode.Parse($"{{{Common}}}")!.AsObject();
        foreach (var (key, value) in JsonNode.Parse($"{{{s_all[name]}}}")!.AsObject())
        {
            config[key] = value?.DeepClone();
        }

        return config;
    }

    internal static CausalLanguageModel Make(string name, ulong seed = 5)
    {
        using var weights = new VariedWeightSource(seed);
        return new CausalLanguageModel(FamilyRegistry.Read(Config(name), name), weights);
    }

    /// <summary>Writes the model's folder.</summary>
    internal static string Write(TemporaryFolder folder, string name)
    {
        using var model = Make(name);
        var path = Directory.CreateDirectory(folder.At(name)).FullName;
        _ = CheckpointWriter.Write(path, [.. model.StoredTensors.Select(static t => TensorFiles.ToWrite(t.Name, t.Tensor))]);
        File.WriteAllText(Path.Combine(path, "config.json"), Config(name).ToJsonString());
        return path;
    }
}
