using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Qwen 1.5 and 2 mixtures of experts, with a gated shared expert.</summary>
internal class Qwen2MoeGguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Qwen2Moe;

    /// <inheritdoc/>
    public override string Architecture => "qwen2moe";

    /// <inheritdoc/>
    public override bool WantsHead => true;

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. MixtureKeys.WithoutFeedForward(base.Modules),
        ("mlp.gate", "ffn_gate_inp"),
        ("mlp.experts.*.gate_proj", "ffn_gate_exps"),
        ("mlp.experts.*.down_proj", "ffn_down_exps"),
        ("mlp.experts.*.up_proj", "ffn_up_exps"),
        ("mlp.shared_expert_gate", "ffn_gate_inp_shexp"),
        ("mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
        ("mlp.shared_expert.down_proj", "ffn_down_shexp"),
        ("mlp.shared_expert.up_proj", "ffn_up_shexp"),
    ];

    /// <summary>Whether llama.cpp normalizes the weights of the selected experts.</summary>
    protected virtual bool NormalizesWeights => false;

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        base.WriteSettings(config, metadata);
        RequireUsualHeads(config);
        WriteExperts(config, metadata);
        metadata.Add("qwen2moe.expert_shared_feed_forward_length", (uint)config.Int("shared_expert_intermediate_size", Facts.Experts!.Shared));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        int Int(string key) => file.Metadata.Int($"{Architecture}.{key}") ?? throw file.Metadata.Error($"{Architecture}.{key}", "this key is missing.");
        config["num_experts"] = Int("expert_count");
        config["num_experts_per_tok"] = Int("expert_used_count");
        config["moe_intermediate_size"] = file.GetTensor("blk.0.ffn_gate_exps.weight").Shape[1];
        config["norm_topk_prob"] = NormalizesWeights;
        ReadOwnSettings(file, config);
        return config;
    }

    /// <summary>Adds settings specific to the family.</summary>
    /// <param name="file">The GGUF file.</param>
    /// <param name="config">Destination.</param>
    protected virtual void ReadOwnSettings(GgufFile file, JsonObject config)
    {
        ArgumentNullException.ThrowIfNull(file);
        ArgumentNullException.ThrowIfNull(config);
        config["qkv_bias"] = file.Contains("blk.0.attn_q.bias");
        config["shared_expert_intermediate_size"] = file.GetTensor("blk.0.ffn_gate_shexp.weight").Shape[0];
        _ = config.Remove("attention_bias");
    }

    /// <summary>Writes the keys of the mixture of experts.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="metadata">Destination.</param>
    protected void WriteExperts(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        RefuseWindows(config);
        if (config.Numbers("mlp_only_layers") is { Count: > 0 } || config.Int("decoder_sparse_step", 1) != 1)
        {
            throw config.Error("mlp_only_layers", "llama.cpp requires a mixture of experts in every layer.");
        }

        if (config.Flag("norm_topk_prob") != NormalizesWeights)
        {
            throw config.Error("norm_topk_prob", $"llama.cpp assumes {(NormalizesWeights ? "true" : "false")} for this family, so the result would differ from the model.");
        }

        metadata.Add($"{Architecture}.expert_count", (uint)Experts(config));
        metadata.Add($"{Architecture}.expert_used_count", (uint)config.Int("num_experts_per_tok", Facts.Experts!.PerToken));
        metadata.Add($"{Architecture}.expert_feed_forward_length", (uint)config.Int("moe_intermediate_size", Facts.Experts!.Inner));
    }
}
