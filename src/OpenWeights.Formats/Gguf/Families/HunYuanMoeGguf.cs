using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Hunyuan-A13B: Hunyuan's attention with experts of which one reads every token.</summary>
internal sealed class HunYuanMoeGguf : HunYuanDenseGguf
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.HunyuanMoe;

    /// <inheritdoc/>
    public override string Architecture => "hunyuan-moe";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. MixtureKeys.WithoutFeedForward(base.Modules),
        ("mlp.gate.wg", "ffn_gate_inp"),
        .. MixtureKeys.Experts(),
        .. MixtureKeys.Shared("mlp.shared_mlp"),
    ];

    /// <inheritdoc/>
    public override int Experts(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return OfLayers(config, "num_experts", Facts.Experts!.Count);
    }

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        var inner = config.Int("intermediate_size");
        MixtureKeys.Write(this, config, metadata, OfLayers(config, "moe_topk", Facts.Experts!.PerToken), inner);
        metadata.Add("hunyuan-moe.expert_shared_feed_forward_length", (uint)inner);
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        config["num_experts"] = MixtureKeys.Int(this, file, "expert_count");
        config["moe_topk"] = MixtureKeys.Int(this, file, "expert_used_count");
        return config;
    }

    // A number, or the same for every layer.
    private static int OfLayers(ConfigJson config, string setting, int usual) => config.Numbers(setting) is [var first, ..] ? (int)first : config.Int(setting, usual);
}
