using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Mixtral, which llama.cpp runs as llama with experts.</summary>
internal sealed class MixtralGguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Mixtral;

    /// <inheritdoc/>
    public override string Architecture => "llama";

    /// <inheritdoc/>
    public override bool PairsRotaryRows => true;

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. MixtureKeys.WithoutFeedForward(base.Modules),
        ("block_sparse_moe.gate", "ffn_gate_inp"),
        ("block_sparse_moe.experts.*.w1", "ffn_gate_exps"),
        ("block_sparse_moe.experts.*.w2", "ffn_down_exps"),
        ("block_sparse_moe.experts.*.w3", "ffn_up_exps"),
    ];

    /// <inheritdoc/>
    public override bool IsOf(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        return file.Metadata.Int("llama.expert_count") > 0;
    }

    /// <inheritdoc/>
    public override int Experts(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("num_local_experts", Facts.Experts!.Count);
    }

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        base.WriteSettings(config, metadata);
        MistralGguf.RefuseWindow(config, Facts.MaxPositions, Facts.SlidingWindow);
        LlamaGguf.WriteLlamaSettings(config, metadata, this);
        metadata.Add("llama.expert_count", (uint)Experts(config));
        metadata.Add("llama.expert_used_count", (uint)config.Int("num_experts_per_tok", Facts.Experts!.PerToken));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        config["num_local_experts"] = file.Metadata.Int("llama.expert_count");
        config["num_experts_per_tok"] = file.Metadata.Int("llama.expert_used_count") ?? 2;
        config["sliding_window"] = null;
        return config;
    }
}
