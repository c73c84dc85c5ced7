using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>LFM 2 with experts.</summary>
internal sealed class Lfm2MoeGguf : Lfm2Gguf
{
    private const uint Sigmoid = 2;

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Lfm2Moe;

    /// <inheritdoc/>
    public override string Architecture => "lfm2moe";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules,
        ("feed_forward.gate", "ffn_gate_inp"),
        ("feed_forward.experts.*.w1", "ffn_gate_exps"),
        ("feed_forward.experts.*.w2", "ffn_down_exps"),
        ("feed_forward.experts.*.w3", "ffn_up_exps"),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => [("feed_forward.expert_bias", "exp_probs_b.bias")];

    /// <inheritdoc/>
    public override int Experts(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("num_experts", Facts.Experts!.Count);
    }

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        foreach (var key in new[] { "use_expert_bias", "norm_topk_prob" })
        {
            if (config.Has(key) && !config.Flag(key))
            {
                throw config.Error(key, "llama.cpp assumes true for this family, so the result would differ from the model.");
            }
        }

        if (config.Number("routed_scaling_factor", 1) != 1)
        {
            throw config.Error("routed_scaling_factor", "llama.cpp assumes 1 for this family, so the result would differ from the model.");
        }

        metadata.Add("lfm2moe.expert_count", (uint)Experts(config));
        metadata.Add("lfm2moe.expert_used_count", (uint)config.Int("num_experts_per_tok", Facts.Experts!.PerToken));
        metadata.Add("lfm2moe.expert_feed_forward_length", (uint)config.Int("moe_intermediate_size", Facts.Experts!.Inner));
        metadata.Add("lfm2moe.expert_gating_func", Sigmoid);
        metadata.Add("lfm2moe.leading_dense_block_count", (uint)config.Number("num_dense_layers", 2));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        int Int(string key) => file.Metadata.Int($"lfm2moe.{key}") ?? throw file.Metadata.Error($"lfm2moe.{key}", "this key is missing.");
        config["num_experts"] = Int("expert_count");
        config["num_experts_per_tok"] = Int("expert_used_count");
        config["moe_intermediate_size"] = Int("expert_feed_forward_length");
        config["num_dense_layers"] = file.Metadata.Int("lfm2moe.leading_dense_block_count") ?? 0;
        config["use_expert_bias"] = true;
        config["norm_topk_prob"] = true;
        _ = config.Remove("block_auto_adjust_ff_dim");
        return config;
    }

    /// <inheritdoc/>
    protected override object FeedForwardLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return (uint)config.Int("intermediate_size", 7168);
    }
}
