namespace OpenWeights.Tune.Tests.Models.Families;

/// <content>Configs of decoders with mixtures of experts.</content>
internal static partial class FamilyCases
{
    private static Dictionary<string, string> Mixtures => new()
    {
        ["afmoe"] =
            """
            "model_type": "afmoe", "head_dim": 8, "num_experts": 5, "num_experts_per_tok": 2, "num_shared_experts": 2, "moe_intermediate_size": 12, "num_dense_layers": 1,
            "global_attn_every_n_layers": 2, "sliding_window": 5, "mup_enabled": true, "route_scale": 1.3
            """,
        ["dots1"] =
            """
            "model_type": "dots1", "head_dim": 8, "n_routed_experts": 6, "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 12, "first_k_dense_replace": 1,
            "n_group": 3, "topk_group": 2, "norm_topk_prob": true, "routed_scaling_factor": 1.4, "sliding_window": 5, "max_window_layers": 2
            """,
        ["ernie4_5_moe"] =
            """
            "model_type": "ernie4_5_moe", "moe_num_experts": 4, "moe_k": 3, "moe_num_shared_experts": 2, "moe_intermediate_size": 12, "moe_layer_start_index": 1, "tie_word_embeddings": true
            """,
        ["flex_olmo"] = """ "model_type": "flex_olmo", "num_experts": 4, "num_experts_per_tok": 3 """,
        ["glm4_moe"] =
            """
            "model_type": "glm4_moe", "head_dim": 8, "attention_bias": true, "use_qk_norm": true, "n_routed_experts": 5, "num_experts_per_tok": 3, "n_shared_experts": 1,
            "moe_intermediate_size": 12, "first_k_dense_replace": 1, "routed_scaling_factor": 1.5
            """,
        ["gpt_oss"] =
            $"""
            "model_type": "gpt_oss", "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 5, "swiglu_limit": 0.05, "rope_scaling": {Yarn}
            """,
        ["granitemoe"] =
            """
            "model_type": "granitemoe", "num_local_experts": 5, "num_experts_per_tok": 2, "embedding_multiplier": 3.0, "logits_scaling": 1.7, "residual_multiplier": 0.4,
            "attention_multiplier": 0.3, "tie_word_embeddings": true
            """,
        ["granitemoeshared"] = """ "model_type": "granitemoeshared", "num_local_experts": 5, "num_experts_per_tok": 2, "shared_intermediate_size": 20, "residual_multiplier": 0.4 """,
        ["hunyuan_v1_moe"] = """ "model_type": "hunyuan_v1_moe", "head_dim": 8, "num_experts": 4, "moe_topk": [2, 2, 2], "tie_word_embeddings": true """,
        ["hy_v3"] =
            """
            "model_type": "hy_v3", "head_dim": 8, "num_experts": 6, "num_experts_per_tok": 2, "num_shared_experts": 1, "moe_intermediate_size": 12,
            "mlp_layer_types": ["dense", "sparse", "sparse"], "router_scaling_factor": 2.8
            """,
        ["llama4_text"] =
            """
            "model_type": "llama4_text", "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 20, "interleave_moe_layer_step": 2, "num_hidden_layers": 4,
            "attention_chunk_size": 5, "floor_scale": 3, "no_rope_layer_interval": 4
            """,
        ["mellum"] =
            """
            "model_type": "mellum", "head_dim": 8, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "mlp_layer_types": ["sparse", "dense", "sparse"]
            """,
        ["mimo_v2_flash"] =
            """
            "model_type": "mimo_v2_flash", "head_dim": 12, "v_head_dim": 8, "n_routed_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "sliding_window": 5,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention"], "partial_rotary_factor": 0.5
            """,
        ["minimax_m2"] = """ "model_type": "minimax_m2", "head_dim": 8, "num_local_experts": 5, "num_experts_per_tok": 2, "rotary_dim": 4 """,
        ["olmoe"] = """ "model_type": "olmoe", "num_experts": 6, "num_experts_per_tok": 3, "clip_qkv": 0.4, "norm_topk_prob": true """,
        ["phimoe"] =
            """
            "model_type": "phimoe", "num_local_experts": 4, "attention_bias": true, "lm_head_bias": true, "router_jitter_noise": 0.4, "sliding_window": 6
            """,
        ["phimoe_longrope"] =
            """
            "model_type": "phimoe", "num_local_experts": 2, "router_jitter_noise": 0.01, "original_max_position_embeddings": 8,
            "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.2], "long_factor": [1.0, 3.0], "short_mscale": 1.1, "long_mscale": 1.3, "original_max_position_embeddings": 8}
            """,
        ["solar_open"] = """ "model_type": "solar_open", "head_dim": 8, "n_routed_experts": 5, "num_experts_per_tok": 2, "n_shared_experts": 2, "moe_intermediate_size": 12 """,
    };
}
