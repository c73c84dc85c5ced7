namespace OpenWeights.Tune.Tests.Models.Families;

/// <content>Configs of Gemma 3n and 4.</content>
internal static partial class FamilyCases
{
    private static Dictionary<string, string> LateGemmas => new()
    {
        ["gemma4_text"] =
            """
            "model_type": "gemma4_text", "head_dim": 4, "num_hidden_layers": 6, "per_layer_config": {"2": {"head_dim": 8}, "5": {"head_dim": 8, "num_key_value_heads": 2}},
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"], "sliding_window": 4,
            "hidden_size_per_layer_input": 6, "vocab_size_per_layer_input": 30, "num_kv_shared_layers": 3, "use_double_wide_mlp": true, "final_logit_softcapping": 3.0
            """,
        ["gemma4_text_same"] =
            """
            "model_type": "gemma4_text", "head_dim": 4, "num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention", "full_attention", "full_attention"],
            "sliding_window": 4, "hidden_size_per_layer_input": 0, "attention_k_eq_v": true, "global_head_dim": 8, "num_global_key_value_heads": 1, "num_kv_shared_layers": 1,
            "attention_bias": true
            """,
        ["gemma4_text_moe"] =
            """
            "model_type": "gemma4_text", "head_dim": 4, "global_head_dim": 8, "layer_types": ["sliding_attention", "full_attention", "full_attention"], "sliding_window": 4,
            "hidden_size_per_layer_input": 0, "enable_moe_block": true, "num_experts": 5, "top_k_experts": 2, "moe_intermediate_size": 12
            """,
        ["gemma3n_text"] =
            """
            "model_type": "gemma3n_text", "head_dim": 4, "num_hidden_layers": 5, "sliding_window": 4, "rope_local_base_freq": 100.0, "rope_theta": 5000.0,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention"], "intermediate_size": [24, 20, 24, 28, 24],
            "hidden_size_per_layer_input": 6, "vocab_size_per_layer_input": 40, "num_kv_shared_layers": 2, "altup_num_inputs": 3, "altup_active_idx": 1, "laurel_rank": 5,
            "activation_sparsity_pattern": [0.6, 0.0, 0.0, 0.4, 0.0]
            """,
    };
}
