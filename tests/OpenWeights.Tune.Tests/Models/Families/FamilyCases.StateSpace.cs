namespace OpenWeights.Tune.Tests.Models.Families;

/// <content>Configs of state space models and their hybrids with attention.</content>
internal static partial class FamilyCases
{
    private static Dictionary<string, string> StateSpace => new()
    {
        ["mamba2"] =
            """
            "model_type": "mamba2", "num_heads": 8, "head_dim": 4, "n_groups": 2, "state_size": 6, "conv_kernel": 3, "use_bias": true, "intermediate_size": 32,
            "time_step_limit": [0.05, 1.5], "layer_norm_epsilon": 1e-5, "num_attention_heads": null, "num_key_value_heads": null, "tie_word_embeddings": true
            """,
        ["bamba"] =
            """
            "model_type": "bamba", "head_dim": 8, "attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_head": "auto", "mamba_n_groups": 2, "mamba_d_state": 5,
            "mamba_proj_bias": true, "mamba_conv_bias": false, "mlp_bias": true, "attention_bias": true, "time_step_limit": [0.0, {"__float__": "Infinity"}]
            """,
        ["falcon_h1"] =
            """
            "model_type": "falcon_h1", "head_dim": 8, "attention_in_multiplier": 1.1, "attention_out_multiplier": 0.9, "embedding_multiplier": 3.0, "key_multiplier": 0.7,
            "lm_head_multiplier": 0.5, "mamba_d_ssm": 24, "mamba_n_heads": 6, "mamba_d_head": 4, "mamba_n_groups": 2, "mamba_d_state": 4, "mamba_rms_norm": true,
            "mamba_norm_before_gate": true, "mlp_multipliers": [0.8, 0.6], "projectors_bias": true, "ssm_in_multiplier": 1.2, "ssm_multipliers": [0.5, 0.7, 0.9, 1.1, 1.2],
            "ssm_out_multiplier": 0.8
            """,
        ["falcon_h1_gate_only"] =
            """
            "model_type": "falcon_h1", "mamba_d_ssm": null, "mamba_n_heads": 8, "mamba_d_state": 4, "mamba_rms_norm": false, "attention_bias": true, "mlp_bias": true,
            "mamba_proj_bias": true
            """,
        ["granitemoehybrid"] =
            """
            "model_type": "granitemoehybrid", "layer_types": ["mamba", "attention", "mamba"], "position_embedding_type": "nope", "num_local_experts": 4, "num_experts_per_tok": 2,
            "shared_intermediate_size": 20, "mamba_n_heads": 8, "mamba_d_state": 6, "mamba_chunk_size": 4, "embedding_multiplier": 3.0, "logits_scaling": 1.7,
            "residual_multiplier": 0.4, "attention_multiplier": 0.3
            """,
        ["granitemoehybrid_dense"] =
            """
            "model_type": "granitemoehybrid", "layer_types": ["linear_attention", "full_attention", "linear_attention"], "position_embedding_type": "rope", "num_local_experts": 0,
            "num_experts_per_tok": 0, "shared_intermediate_size": 20, "mamba_n_heads": 8, "mamba_d_state": 6, "attention_bias": true, "tie_word_embeddings": true
            """,
        ["nemotron_h"] =
            """
            "model_type": "nemotron_h", "layers_block_type": ["linear_attention", "mlp", "full_attention", "moe", "linear_attention"], "head_dim": 8, "mamba_num_heads": 6,
            "mamba_head_dim": 4, "n_groups": 2, "ssm_state_size": 5, "moe_intermediate_size": 12, "moe_shared_expert_intermediate_size": 20, "n_routed_experts": 6,
            "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1, "routed_scaling_factor": 1.5, "use_bias": true, "mlp_bias": true
            """,
        ["nemotron_h_latent"] =
            """
            "model_type": "nemotron_h", "hybrid_override_pattern": "ME*-", "head_dim": 4, "mamba_num_heads": 4, "mamba_head_dim": 8, "n_groups": 1, "ssm_state_size": 5,
            "moe_intermediate_size": 12, "moe_latent_size": 8, "moe_shared_expert_intermediate_size": 20, "n_routed_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": false
            """,
        ["jamba"] =
            """
            "model_type": "jamba", "attn_layer_offset": 2, "attn_layer_period": 3, "expert_layer_offset": 1, "expert_layer_period": 2, "num_experts": 4,
            "num_experts_per_tok": 2, "mamba_d_state": 5, "mamba_dt_rank": 3, "mamba_d_conv": 3, "mamba_proj_bias": true
            """,
    };
}
