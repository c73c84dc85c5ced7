namespace OpenWeights.Tune.Tests.Models.Families;

/// <content>Configs of hybrids of attention with linear attention or short convolutions.</content>
internal static partial class FamilyCases
{
    private const string DeltaNet =
        """
        "num_hidden_layers": 3, "layer_types": ["linear_attention", "full_attention", "linear_attention"], "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_key_head_dim": 6, "linear_value_head_dim": 5, "linear_conv_kernel_dim": 3
        """;

    private static Dictionary<string, string> LinearAttention => new()
    {
        ["qwen3_5_text"] = $""" "model_type": "qwen3_5_text", {DeltaNet}, "head_dim": 8, "partial_rotary_factor": 0.5, "attention_bias": true, "tie_word_embeddings": true """,
        ["qwen3_5_moe_text"] =
            $"""
            "model_type": "qwen3_5_moe_text", {DeltaNet}, "head_dim": 8, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "shared_expert_intermediate_size": 20
            """,
        ["qwen3_next"] =
            $"""
            "model_type": "qwen3_next", {DeltaNet}, "head_dim": 8, "num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 12, "shared_expert_intermediate_size": 20,
            "mlp_only_layers": [1], "norm_topk_prob": false
            """,
        ["olmo_hybrid"] = $""" "model_type": "olmo_hybrid", {DeltaNet}, "head_dim": 4, "num_key_value_heads": 2, "rope_theta": 500000.0 """,
        ["olmo_hybrid_without_positions"] = $""" "model_type": "olmo_hybrid", {DeltaNet}, "head_dim": 4, "linear_allow_neg_eigval": false """,
        ["kimi_linear"] =
            """
            "model_type": "kimi_linear", "num_key_value_heads": 4, "kv_lora_rank": 6, "qk_nope_head_dim": 5, "qk_rope_head_dim": 4, "v_head_dim": 3, "num_experts": 6,
            "num_experts_per_token": 2, "num_expert_group": 3, "topk_group": 2, "moe_intermediate_size": 12, "num_shared_experts": 2,
            "linear_attn_config": {"full_attn_layers": [2], "kda_layers": [1, 3], "head_dim": 6, "num_heads": 3, "short_conv_kernel_size": 3}
            """,
        ["lfm2"] = """ "model_type": "lfm2", "full_attn_idxs": [1], "conv_L_cache": 4, "conv_bias": true, "block_multiple_of": 4, "block_ffn_dim_multiplier": 1.2 """,
        ["lfm2_moe"] =
            """
            "model_type": "lfm2_moe", "layer_types": ["conv", "full_attention", "conv"], "num_dense_layers": 1, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 12,
            "routed_scaling_factor": 1.5
            """,
    };
}
