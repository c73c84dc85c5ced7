using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Settings common to the Hunyuan families.</summary>
internal static class HunYuanSettings
{
    // In published configs; transformers' classes do not read them.
    private static readonly string[] s_ignored =
    [
        "add_classification_head", "attention_head_dim", "cla_share_factor", "class_num", "dense_list", "im_end_id", "im_newline_id", "im_start_id", "mask_init_id", "mlp_bias",
        "norm_type", "org_vocab_size", "pad_id", "pool_type", "sep_id", "text_end_id", "text_start_id", "use_qk_norm", "use_rotary_pos_emb", "position_embedding_xdrope",
    ];

    /// <summary>Reads the settings of published configs that change nothing, and refuses those that would.</summary>
    internal static void ReadHunYuanDescription(this ConfigReader config)
    {
        config.Require("use_cla", !config.Flag("use_cla"), "keys and values shared across layers are not supported for this family.");
        foreach (var name in s_ignored)
        {
            _ = config.Has(name);
        }

        // Read by WithHunYuanRope.
        _ = config.RopeSettings.Add("alpha");
    }

    /// <summary>Dynamic scaling with alpha, which is the same as a larger base.</summary>
    internal static DecoderConfig WithHunYuanRope(this DecoderConfig decoder, ConfigReader config)
    {
        var scaling = config.Object("rope_parameters") ?? config.Object("rope_scaling");
        if (decoder.Rope.Kind != RopeKind.Dynamic || scaling?["alpha"] is not { } given)
        {
            return decoder;
        }

        var (alpha, width) = (config.Number(given, "rope_scaling: alpha", null), (double)decoder.HeadDimension);
        return decoder with { Rope = decoder.Rope with { Kind = RopeKind.Default, Factor = 1, Theta = decoder.Rope.Theta * Math.Pow(alpha, width / (width - 2)) } };
    }

    /// <summary>Norms of queries and keys after the rotary embedding.</summary>
    internal static AttentionSettings Attention(AttentionSettings attention) => attention with
    {
        Names = new AttentionNames { QueryNorm = "query_layernorm", KeyNorm = "key_layernorm" },
        NormalizesRotated = true,
    };
}
