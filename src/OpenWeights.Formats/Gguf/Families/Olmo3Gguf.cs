using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>OLMo 3, which llama.cpp runs as OLMo 2 with sliding windows in three of four layers.</summary>
internal sealed class Olmo3Gguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Olmo3;

    /// <inheritdoc/>
    public override string Architecture => "olmo2";

    /// <inheritdoc/>
    public override bool WantsHead => true;

    /// <inheritdoc/>
    public override bool IsOf(GgufFile file) => file?.Metadata.Int(WindowKey) is not null;

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules.Where(static m => m.HuggingFace is not ("input_layernorm" or "post_attention_layernorm")),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("post_attention_layernorm", "post_attention_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
    ];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        RequireUsualHeads(config);
        RefuseBiases(config, "attention_bias");
        RequireLayerTypes(config, static layer => (layer + 1) % 4 != 0);
        metadata.Add(WindowKey, (uint)config.Int("sliding_window", Facts.SlidingWindow));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        config["sliding_window"] = file.Metadata.Int(WindowKey);
        return config;
    }

    private const string WindowKey = "olmo2.attention.sliding_window";
}
