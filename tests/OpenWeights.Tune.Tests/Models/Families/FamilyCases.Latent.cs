namespace OpenWeights.Tune.Tests.Models.Families;

/// <content>Configs of decoders with latent attention.</content>
internal static partial class FamilyCases
{
    private static Dictionary<string, string> Latent => new()
    {
        ["minicpm3"] =
            """
            "model_type": "minicpm3", "num_key_value_heads": 4, "q_lora_rank": 10, "kv_lora_rank": 6, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 5,
            "scale_emb": 3, "scale_depth": 1.1, "dim_model_base": 8
            """,
        ["minicpm3_bias"] =
            """
            "model_type": "minicpm3", "num_key_value_heads": 4, "q_lora_rank": null, "kv_lora_rank": 6, "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 9,
            "attention_bias": true, "mlp_bias": true, "scale_depth": null, "dim_model_base": null, "tie_word_embeddings": false
            """,
        ["deepseek_v2"] =
            """
            "model_type": "deepseek_v2", "num_key_value_heads": 4, "q_lora_rank": null, "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 4,
            "first_k_dense_replace": 1, "n_routed_experts": 6, "num_experts_per_tok": 3, "n_shared_experts": 2, "moe_intermediate_size": 12, "mlp_bias": true,
            "topk_method": "group_limited_greedy", "n_group": 3, "topk_group": 2, "routed_scaling_factor": 1.3,
            "rope_scaling": {"type": "yarn", "factor": 3.0, "mscale": 0.7, "mscale_all_dim": 0.7, "original_max_position_embeddings": 16}
            """,
        ["deepseek_v3"] =
            """
            "model_type": "deepseek_v3", "num_key_value_heads": 4, "q_lora_rank": 10, "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 6,
            "first_k_dense_replace": 1, "n_routed_experts": 6, "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 12, "attention_bias": true,
            "n_group": 3, "topk_group": 2, "rope_scaling": {"type": "yarn", "factor": 3.0, "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 16}
            """,
        ["glm4_moe_lite"] =
            """
            "model_type": "glm4_moe_lite", "num_key_value_heads": 4, "q_lora_rank": 10, "kv_lora_rank": 8, "qk_nope_head_dim": 6, "qk_rope_head_dim": 2, "v_head_dim": 6,
            "mlp_layer_types": ["sparse", "dense", "sparse"], "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "rope_interleave": false
            """,
        ["mistral4"] =
            """
            "model_type": "mistral4", "num_key_value_heads": 4, "q_lora_rank": 10, "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 6,
            "first_k_dense_replace": 1, "n_routed_experts": 5, "num_experts_per_tok": 3, "moe_intermediate_size": 12,
            "rope_parameters": {"type": "yarn", "factor": 3.0, "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 8, "llama_4_scaling_beta": 0.4}
            """,
    };
}
