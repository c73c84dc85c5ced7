namespace OpenWeights.Tune.Tests.Models.Families;

/// <content>Configs of dense decoders.</content>
internal static partial class FamilyCases
{
    private static Dictionary<string, string> Dense => new()
    {
        ["apertus"] = """ "model_type": "apertus", "hidden_act": "xielu", "attention_bias": true """,
        ["arcee"] = """ "model_type": "arcee", "hidden_act": "relu2", "mlp_bias": true, "head_dim": 8 """,
        ["cohere"] = """ "model_type": "cohere", "use_qk_norm": true, "logit_scale": 0.4, "attention_bias": true """,
        ["cohere2"] = """ "model_type": "cohere2", "sliding_window": 5, "sliding_window_pattern": 3, "logit_scale": 0.4, "head_dim": 8 """,
        ["ernie4_5"] = """ "model_type": "ernie4_5", "use_bias": true, "head_dim": 8 """,
        ["exaone4"] = """ "model_type": "exaone4", "sliding_window": 4, "sliding_window_pattern": "LLG" """,
        ["glm"] = """ "model_type": "glm", "head_dim": 8, "partial_rotary_factor": 0.5 """,
        ["glm4"] = """ "model_type": "glm4", "head_dim": 8, "attention_bias": false """,
        ["gpt_neox"] = """ "model_type": "gpt_neox", "num_key_value_heads": null, "rotary_pct": 0.5, "hidden_size": 32 """,
        ["gpt_neox_sequential"] = """ "model_type": "gpt_neox", "num_key_value_heads": null, "rotary_pct": 1.0, "use_parallel_residual": false, "attention_bias": false """,
        ["granite_swa"] =
            """
            "model_type": "granite_swa", "sliding_window": 4, "layer_rope_theta": [10000.0, 0, 500.0], "embedding_multiplier": 3.0, "logits_scaling": 1.7,
            "residual_multiplier": 0.4, "attention_multiplier": 0.3
            """,
        ["helium"] = """ "model_type": "helium", "head_dim": 4, "mlp_bias": true, "attention_bias": true """,
        ["hunyuan_v1_dense"] = """ "model_type": "hunyuan_v1_dense", "rope_scaling": {"type": "dynamic", "alpha": 50.0, "factor": 1.0} """,
        ["internlm3"] = """ "model_type": "internlm3", "qkv_bias": true, "bias": true """,
        ["ministral3"] =
            """
            "model_type": "ministral3", "sliding_window": 7, "head_dim": 8,
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 3, "llama_4_scaling_beta": 0.5, "mscale": 1.0, "mscale_all_dim": 1.0}
            """,
        ["nanochat"] = """ "model_type": "nanochat", "final_logit_softcapping": 4.0 """,
        ["nemotron"] = """ "model_type": "nemotron", "partial_rotary_factor": 0.5, "mlp_bias": true, "attention_bias": true """,
        ["olmo3"] = $""" "model_type": "olmo3", "sliding_window": 4, "rope_scaling": {Yarn} """,
        ["phi"] = """ "model_type": "phi", "qk_layernorm": true """,
        ["phi_1"] = """ "model_type": "phi", "hidden_act": "gelu", "num_key_value_heads": null """,
        ["seed_oss"] = """ "model_type": "seed_oss", "attention_out_bias": true, "mlp_bias": true, "head_dim": 8 """,
        ["stablelm"] = """ "model_type": "stablelm", "use_qkv_bias": true, "partial_rotary_factor": 0.5 """,
        ["stablelm_parallel"] = """ "model_type": "stablelm", "qk_layernorm": true, "use_parallel_residual": true, "partial_rotary_factor": 0.5 """,
        ["starcoder2"] = """ "model_type": "starcoder2", "sliding_window": 5 """,
        ["vaultgemma"] = """ "model_type": "vaultgemma", "head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 12, "attn_logit_softcapping": 2.0 """,
    };
}
