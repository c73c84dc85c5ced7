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
    };
}
