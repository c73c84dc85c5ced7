using System.Text.Json.Nodes;
using OpenWeights.Formats.Json;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Tests.Models.Families;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>A small model of every family as llama.cpp knows it, with what sets the family apart turned on and weights that leave nothing out.</summary>
internal static class GgufCases
{
    private const string Common =
        """
        "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3, "num_key_value_heads": 2,
        "max_position_embeddings": 64, "vocab_size": 256, "tie_word_embeddings": false
        """;

    private const string Latent =
        """
        "num_key_value_heads": 4, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 8, "rms_norm_eps": 1e-6,
        """;

    private const string Queries = """ "q_lora_rank": 24, """;

    private const string Sparse = """ "first_k_dense_replace": 1, "moe_intermediate_size": 32, "n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 2, """;

    private const string Factors = """ "short_factor": [1.0, 1.1, 1.3], "long_factor": [1.0, 2.5, 7.0] """;

    private const string Delta =
        """
        "head_dim": 16, "partial_rotary_factor": 0.5, "linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "linear_conv_kernel_dim": 4
        """;

    private const string QwenExperts = """ "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 48 """;

    private const string Mamba =
        """
        "mamba_d_conv": 4, "mamba_expand": 2, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 2, "mamba_d_state": 8
        """;

    private const string GraniteHybrid =
        $$"""
        "num_hidden_layers": 4, "layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"], {{Mamba}}, "shared_intermediate_size": 48,
        "embedding_multiplier": 3.0, "logits_scaling": 1.7, "residual_multiplier": 0.4, "attention_multiplier": 0.3, "tie_word_embeddings": true
        """;

    private const string NemotronH =
        """
        "model_type": "nemotron_h", "head_dim": 16, "num_hidden_layers": null, "conv_kernel": 4, "mamba_num_heads": 8, "mamba_head_dim": 8, "n_groups": 2,
        "ssm_state_size": 8
        """;

    private static readonly Dictionary<string, string> s_configs = new()
    {
        ["llama"] = """ "model_type": "llama", "attention_bias": true, "mlp_bias": true, "head_dim": 16 """,
        ["llama_yarn"] = """ "model_type": "llama", "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "attention_factor": 1.3} """,
        ["mistral"] = """ "model_type": "mistral", "sliding_window": null, "head_dim": 16 """,
        ["mixtral"] = """ "model_type": "mixtral", "num_local_experts": 5, "num_experts_per_tok": 2 """,
        ["qwen2"] = """ "model_type": "qwen2", "tie_word_embeddings": true """,
        ["qwen2_moe"] =
            """
            "model_type": "qwen2_moe", "num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 96, "norm_topk_prob": false, "tie_word_embeddings": true
            """,
        ["qwen3"] = """ "model_type": "qwen3", "head_dim": 16 """,
        ["qwen3_moe"] =
            """
            "model_type": "qwen3_moe", "head_dim": 16, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": true
            """,
        ["gemma"] = """ "model_type": "gemma", "head_dim": 16, "hidden_act": "gelu", "tie_word_embeddings": true """,
        ["gemma2"] =
            """
            "model_type": "gemma2", "head_dim": 16, "sliding_window": 6, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0, "tie_word_embeddings": true, "num_hidden_layers": 4
            """,
        ["gemma3_text"] =
            """
            "model_type": "gemma3_text", "head_dim": 16, "sliding_window": 6, "query_pre_attn_scalar": 16, "rope_theta": 5000.0,
            "rope_local_base_freq": 100.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "num_hidden_layers": 7
            """,
        ["phi3"] = """ "model_type": "phi3", "sliding_window": 40, "num_key_value_heads": null """,
        ["phi3_longrope"] =
            $$"""
            "model_type": "phi3", "partial_rotary_factor": 0.75, "max_position_embeddings": 1024, "original_max_position_embeddings": 512,
            "rope_scaling": {"type": "longrope", {{Factors}}}
            """,
        ["phi3_long"] =
            $$"""
            "model_type": "phi3", "partial_rotary_factor": 0.75, "max_position_embeddings": 1024, "original_max_position_embeddings": 8,
            "rope_scaling": {"rope_type": "longrope", {{Factors}}}
            """,
        ["granite"] =
            """
            "model_type": "granite", "embedding_multiplier": 3.0, "logits_scaling": 1.7, "residual_multiplier": 0.4, "attention_multiplier": 0.3,
            "mlp_bias": true, "attention_bias": true, "tie_word_embeddings": true
            """,
        ["olmo2"] = """ "model_type": "olmo2", "tie_word_embeddings": true """,
        ["cohere"] = """ "model_type": "cohere", "logit_scale": 0.4, "tie_word_embeddings": true """,
        ["cohere2"] = """ "model_type": "cohere2", "logit_scale": 0.4, "sliding_window": 6, "num_hidden_layers": 5, "tie_word_embeddings": true """,
        ["starcoder2"] = """ "model_type": "starcoder2" """,
        ["phi"] = """ "model_type": "phi" """,
        ["stablelm"] = """ "model_type": "stablelm", "use_qkv_bias": true, "partial_rotary_factor": 0.5 """,
        ["stablelm_parallel"] = """ "model_type": "stablelm", "use_parallel_residual": true, "partial_rotary_factor": 0.25 """,
        ["arcee"] = """ "model_type": "arcee", "head_dim": 16 """,
        ["seed_oss"] = """ "model_type": "seed_oss", "head_dim": 16 """,
        ["ernie4_5"] = """ "model_type": "ernie4_5", "head_dim": 16, "tie_word_embeddings": true """,
        ["nemotron"] = """ "model_type": "nemotron", "attention_bias": true, "mlp_bias": true """,
        ["glm4"] = """ "model_type": "glm4", "head_dim": 8, "attention_bias": true """,
        ["hunyuan_v1_dense"] = """ "model_type": "hunyuan_v1_dense", "head_dim": 16, "rope_scaling": {"type": "dynamic", "alpha": 50.0, "factor": 1.0} """,
        ["exaone4"] = """ "model_type": "exaone4", "sliding_window": null """,
        ["olmo3"] =
            """
            "model_type": "olmo3", "sliding_window": 6, "num_hidden_layers": 5, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
            """,
        ["ministral3"] =
            """
            "model_type": "ministral3", "head_dim": 16, "sliding_window": null,
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "llama_4_scaling_beta": 0.3}
            """,
        ["olmoe"] = """ "model_type": "olmoe", "num_experts": 6, "num_experts_per_tok": 3, "num_key_value_heads": 4, "norm_topk_prob": false """,
        ["glm4_moe"] =
            """
            "model_type": "glm4_moe", "head_dim": 16, "attention_bias": true, "first_k_dense_replace": 1, "moe_intermediate_size": 32, "n_routed_experts": 6, "n_shared_experts": 2, "num_experts_per_tok": 2,
            "norm_topk_prob": true, "routed_scaling_factor": 1.5, "use_qk_norm": true, "partial_rotary_factor": 0.5, "n_group": 1, "topk_group": 1
            """,
        ["solar_open"] =
            """
            "model_type": "solar_open", "head_dim": 16, "moe_intermediate_size": 32, "n_routed_experts": 6, "n_shared_experts": 1, "num_experts_per_tok": 2, "norm_topk_prob": true, "routed_scaling_factor": 2.0
            """,
        ["dots1"] =
            """
            "model_type": "dots1", "head_dim": 16, "num_key_value_heads": 4, "first_k_dense_replace": 1, "moe_intermediate_size": 32, "n_routed_experts": 6, "n_shared_experts": 2, "num_experts_per_tok": 3, "norm_topk_prob": false,
            "routed_scaling_factor": 1.3
            """,
        ["ernie4_5_moe"] =
            """
            "model_type": "ernie4_5_moe", "head_dim": 16, "moe_intermediate_size": 32, "moe_k": 2, "moe_layer_start_index": 1, "moe_num_experts": 6, "moe_num_shared_experts": 2, "tie_word_embeddings": true
            """,
        ["minimax_m2"] = """ "model_type": "minimax_m2", "head_dim": 16, "intermediate_size": 32, "num_local_experts": 6, "num_experts_per_tok": 2, "rotary_dim": 8 """,
        ["afmoe"] =
            """
            "model_type": "afmoe", "head_dim": 16, "sliding_window": 6, "num_hidden_layers": 5, "moe_intermediate_size": 32, "mup_enabled": true, "num_dense_layers": 2, "num_experts": 6,
            "num_experts_per_tok": 2, "num_shared_experts": 1, "route_scale": 1.4
            """,
        ["hy_v3"] =
            """
            "model_type": "hy_v3", "head_dim": 16, "mlp_layer_types": ["dense", "sparse", "sparse"], "moe_intermediate_size": 32, "num_experts": 6, "num_experts_per_tok": 2, "num_shared_experts": 2,
            "router_scaling_factor": 1.7, "rope_theta": 5000.0
            """,
        ["granitemoe"] =
            """
            "model_type": "granitemoe", "embedding_multiplier": 3.0, "logits_scaling": 1.7, "residual_multiplier": 0.4, "attention_multiplier": 0.3, "intermediate_size": 32, "num_local_experts": 6,
            "num_experts_per_tok": 2, "tie_word_embeddings": true
            """,
        ["granitemoeshared"] =
            """
            "model_type": "granitemoeshared", "embedding_multiplier": 3.0, "logits_scaling": 1.7, "residual_multiplier": 0.4, "attention_multiplier": 0.3, "intermediate_size": 32, "num_local_experts": 6,
            "num_experts_per_tok": 3, "shared_intermediate_size": 96
            """,
        ["hunyuan_v1_moe"] =
            """
            "model_type": "hunyuan_v1_moe", "head_dim": 16, "moe_topk": 2, "num_experts": 5, "tie_word_embeddings": true, "rope_scaling": {"type": "dynamic", "alpha": 50.0, "factor": 1.0}
            """,
        ["mellum"] =
            """
            "model_type": "mellum", "head_dim": 16, "sliding_window": 6, "num_hidden_layers": 4, "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
            "moe_intermediate_size": 32, "num_experts": 6, "num_experts_per_tok": 2, "norm_topk_prob": true,
            "rope_parameters": {
              "full_attention": {"rope_type": "yarn", "rope_theta": 20000.0, "factor": 4.0, "original_max_position_embeddings": 16},
              "sliding_attention": {"rope_type": "default", "rope_theta": 20000.0}
            }
            """,
        ["mimo_v2_flash"] =
            """
            "model_type": "mimo_v2_flash", "head_dim": 24, "v_head_dim": 16, "sliding_window": 6, "num_hidden_layers": 4, "num_key_value_heads": 2,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"], "mlp_layer_types": ["dense", "sparse", "sparse", "dense"], "moe_intermediate_size": 32,
            "n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 4, "topk_group": 2,
            "rope_parameters": {
              "full_attention": {"rope_type": "default", "rope_theta": 50000.0, "partial_rotary_factor": 0.334},
              "sliding_attention": {"rope_type": "default", "rope_theta": 1000.0, "partial_rotary_factor": 0.334}
            }
            """,
        ["llama4_text"] =
            """
            "model_type": "llama4_text", "head_dim": 16, "intermediate_size": 32, "intermediate_size_mlp": 64, "interleave_moe_layer_step": 2, "num_hidden_layers": 4, "num_local_experts": 4,
            "num_experts_per_tok": 2, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 32}
            """,
        ["gpt_oss"] =
            """
            "model_type": "gpt_oss", "head_dim": 16, "intermediate_size": 32, "num_hidden_layers": 4, "num_local_experts": 6, "num_experts_per_tok": 2, "sliding_window": 6,
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
            """,
        ["minicpm3"] = $$""" {{Latent}} {{Queries}} "model_type": "minicpm3", "tie_word_embeddings": true """,
        ["minicpm3_longrope"] =
            $$"""
            {{Latent}} {{Queries}} "model_type": "minicpm3", "max_position_embeddings": 1024, "original_max_position_embeddings": 8,
            "rope_scaling": {"rope_type": "longrope", "short_factor": [1.0, 1.1, 1.3, 1.5], "long_factor": [1.0, 2.5, 7.0, 9.0]}
            """,
        ["deepseek_v2"] =
            $$"""
            {{Latent}} {{Sparse}} "model_type": "deepseek_v2", "q_lora_rank": null, "norm_topk_prob": false, "topk_method": "greedy", "routed_scaling_factor": 1.3,
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "mscale": 0.707, "mscale_all_dim": 0.707}
            """,
        ["deepseek_v3"] =
            $$"""
            {{Latent}} {{Queries}} {{Sparse}} "model_type": "deepseek_v3", "n_group": 4, "topk_group": 2, "norm_topk_prob": true, "routed_scaling_factor": 2.5,
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "mscale": 1.0, "mscale_all_dim": 1.0}
            """,
        ["deepseek_v3_scaled"] =
            $$"""
            {{Latent}} {{Queries}} {{Sparse}} "model_type": "deepseek_v3", "n_group": 1, "topk_group": 1,
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "mscale": 2.0, "mscale_all_dim": 0.5}
            """,
        ["deepseek_v3_unscaled"] =
            $$"""
            {{Latent}} {{Queries}} {{Sparse}} "model_type": "deepseek_v3", "n_group": 1, "topk_group": 1, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
            """,
        ["glm4_moe_lite"] = $$""" {{Latent}} {{Queries}} {{Sparse}} "model_type": "glm4_moe_lite", "mlp_layer_types": ["dense", "sparse", "sparse"], "n_group": 1, "topk_group": 1, "rope_theta": 5000.0 """,
        ["mistral4"] =
            $$"""
            {{Latent}} {{Queries}} {{Sparse}} "model_type": "mistral4",
            "rope_parameters": {
              "rope_type": "yarn", "rope_theta": 5000.0, "factor": 4.0, "original_max_position_embeddings": 8, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.3
            }
            """,
        ["mistral4_scaled"] =
            $$"""
            {{Latent}} {{Queries}} {{Sparse}} "model_type": "mistral4",
            "rope_parameters": {"rope_type": "yarn", "rope_theta": 5000.0, "factor": 4.0, "original_max_position_embeddings": 8, "mscale": 1.0, "mscale_all_dim": 0.4, "llama_4_scaling_beta": 0.3}
            """,
        ["internlm3"] = """ "model_type": "internlm3", "qkv_bias": true, "bias": false, "head_dim": 16 """,
        ["helium"] = """ "model_type": "helium", "head_dim": 16 """,
        ["glm"] = """ "model_type": "glm", "head_dim": 8, "attention_bias": true """,
        ["gpt_neox"] = """ "model_type": "gpt_neox", "num_key_value_heads": null, "partial_rotary_factor": 0.5 """,
        ["gpt_neox_sequential"] = """ "model_type": "gpt_neox", "num_key_value_heads": null, "rotary_pct": 0.25, "rotary_emb_base": 500, "use_parallel_residual": false """,
        ["apertus"] =
            """
            "model_type": "apertus", "head_dim": 16, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16}
            """,
        ["qwen3_next"] =
            $$"""
            "model_type": "qwen3_next", "num_hidden_layers": 4, {{Delta}}, "norm_topk_prob": true, {{QwenExperts}}
            """,
        ["qwen3_5"] = $$""" "model_type": "qwen3_5_text", "num_hidden_layers": 4, "tie_word_embeddings": true, {{Delta}} """,
        ["qwen3_5_irregular"] =
            $$"""
            "model_type": "qwen3_5_text", "num_hidden_layers": 4, {{Delta}},
            "layer_types": ["full_attention", "linear_attention", "linear_attention", "full_attention"]
            """,
        ["qwen3_5_moe"] = $$""" "model_type": "qwen3_5_moe_text", "num_hidden_layers": 4, {{Delta}}, {{QwenExperts}}, "intermediate_size": null """,
        ["lfm2"] =
            """
            "model_type": "lfm2", "num_hidden_layers": 4, "layer_types": ["conv", "full_attention", "conv", "full_attention"], "block_auto_adjust_ff_dim": true,
            "block_multiple_of": 16, "tie_word_embeddings": true, "conv_L_cache": 4
            """,
        ["lfm2_moe"] =
            """
            "model_type": "lfm2_moe", "num_hidden_layers": 4, "layer_types": ["conv", "conv", "full_attention", "conv"], "num_dense_layers": 1, "num_experts": 6,
            "num_experts_per_tok": 2, "moe_intermediate_size": 32, "use_expert_bias": true, "norm_topk_prob": true, "tie_word_embeddings": true
            """,
        ["granitemoehybrid"] = $$""" "model_type": "granitemoehybrid", {{GraniteHybrid}}, "num_local_experts": 5, "num_experts_per_tok": 2, "position_embedding_type": "nope" """,
        ["granitemoehybrid_dense"] =
            $$""" "model_type": "granitemoehybrid", {{GraniteHybrid}}, "num_local_experts": 0, "num_experts_per_tok": 0, "position_embedding_type": "rope" """,
        ["bamba"] = $$""" "model_type": "bamba", "num_hidden_layers": 4, "attn_layer_indices": [1, 3], "mlp_bias": true, {{Mamba}} """,
        ["mamba2"] =
            """
            "model_type": "mamba2", "intermediate_size": null, "num_attention_heads": null, "num_key_value_heads": null, "max_position_embeddings": null,
            "conv_kernel": 4, "expand": 2, "head_dim": 8, "num_heads": 8, "n_groups": 2, "state_size": 8, "tie_word_embeddings": true
            """,
        ["falcon_h1"] =
            $$"""
            "model_type": "falcon_h1", "head_dim": 16, {{Mamba}}, "mamba_d_ssm": 64, "mamba_rms_norm": false, "embedding_multiplier": 3.0,
            "lm_head_multiplier": 0.5, "attention_in_multiplier": 1.1, "attention_out_multiplier": 0.9, "key_multiplier": 0.7, "ssm_in_multiplier": 1.2,
            "ssm_out_multiplier": 0.8, "ssm_multipliers": [0.5, 0.7, 0.9, 1.1, 1.2], "mlp_multipliers": [0.8, 0.6], "tie_word_embeddings": true
            """,
        ["falcon_h1_norm"] =
            $$"""
            "model_type": "falcon_h1", "head_dim": 16, {{Mamba}}, "mamba_d_ssm": 64, "mamba_rms_norm": true, "mamba_norm_before_gate": false,
            "key_multiplier": 0.7, "attention_out_multiplier": 0.9, "mlp_bias": true, "mlp_multipliers": [0.8, 0.6]
            """,
        ["nemotron_h"] = $$""" {{NemotronH}}, "layers_block_type": ["linear_attention", "mlp", "full_attention", "linear_attention"], "mlp_bias": true """,
        ["nemotron_h_moe"] =
            $$"""
            {{NemotronH}}, "layers_block_type": ["linear_attention", "moe", "full_attention", "moe"], "n_routed_experts": 6, "num_experts_per_tok": 2,
            "moe_intermediate_size": 32, "moe_shared_expert_intermediate_size": 40, "routed_scaling_factor": 1.5
            """,
        ["nemotron_h_latent"] =
            $$"""
            {{NemotronH}}, "hybrid_override_pattern": "M*E", "n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 4, "topk_group": 2, "moe_latent_size": 16,
            "moe_intermediate_size": 32, "moe_shared_expert_intermediate_size": 40, "norm_topk_prob": false
            """,
        ["jamba"] =
            """
            "model_type": "jamba", "num_hidden_layers": 5, "attn_layer_period": 4, "attn_layer_offset": 2, "expert_layer_period": 2, "expert_layer_offset": 1,
            "num_experts": 4, "num_experts_per_tok": 2, "mamba_d_state": 8, "mamba_dt_rank": 6, "mamba_expand": 2, "mamba_d_conv": 4
            """,
        ["gemma3n_text"] =
            """
            "model_type": "gemma3n_text", "hidden_size": 32, "head_dim": 8, "num_hidden_layers": 25, "num_kv_shared_layers": 5, "sliding_window": 6, "laurel_rank": 64,
            "hidden_size_per_layer_input": 256, "vocab_size_per_layer_input": 200, "altup_num_inputs": 4, "tie_word_embeddings": true, "rope_local_base_freq": 100.0,
            "rope_theta": 5000.0
            """,
        ["gemma4_text"] =
            """
            "model_type": "gemma4_text", "num_hidden_layers": 6, "head_dim": 8, "sliding_window": 6, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 200,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention"],
            "num_kv_shared_layers": 2, "global_head_dim": 16, "use_double_wide_mlp": true, "final_logit_softcapping": 5.0, "tie_word_embeddings": true,
            "rope_parameters": {"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 5000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0}}
            """,
        ["gemma4_text_moe"] =
            """
            "model_type": "gemma4_text", "num_hidden_layers": 4, "head_dim": 8, "sliding_window": 6, "hidden_size_per_layer_input": 0, "num_key_value_heads": 2,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"], "attention_k_eq_v": true, "num_global_key_value_heads": 1,
            "global_head_dim": 16, "enable_moe_block": true, "num_experts": 6, "top_k_experts": 2, "moe_intermediate_size": 32, "tie_word_embeddings": true,
            "final_logit_softcapping": null
            """,
        ["smollm3"] = """ "model_type": "smollm3", "num_hidden_layers": 5, "rope_theta": 2000.0 """,
    };

    internal static IEnumerable<string> Names => s_configs.Keys;

    /// <summary>Writes the model's folder, with a tokenizer of bytes, and gives its path.</summary>
    internal static string Write(TemporaryFolder work, string name, params ReadOnlySpan<(string Key, JsonNode? Value)> changes)
    {
        var config = JsonNode.Parse($"{{{Common}}}")!.AsObject();
        foreach (var (key, value) in JsonNode.Parse($"{{{s_configs[name]}}}")!.AsObject())
        {
            config[key] = value?.DeepClone();
        }

        foreach (var (key, value) in changes)
        {
            config[key] = value?.DeepClone();
        }

        using var weights = new VariedWeightSource(11);
        using var model = new CausalLanguageModel(FamilyRegistry.Read(config, name), weights);
        var folder = work.Folder(name);
        _ = CheckpointWriter.Write(folder, [.. model.StoredTensors.Select(static t => TensorFiles.ToWrite(t.Name, t.Tensor))]);
        File.WriteAllText(Path.Combine(folder, "config.json"), PythonJson.Serialize(config));
        ByteTokenizer.Write(folder);
        return folder;
    }
}
