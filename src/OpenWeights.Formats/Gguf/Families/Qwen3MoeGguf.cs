using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Qwen 3 with experts.</summary>
internal sealed class Qwen3MoeGguf : Qwen2MoeGguf
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Qwen3Moe;

    /// <inheritdoc/>
    public override string Architecture => "qwen3moe";

    /// <inheritdoc/>
    public override bool WantsHead => false;

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
        [.. base.Modules.Where(static m => !m.HuggingFace.Contains("shared_expert", StringComparison.Ordinal)), ("self_attn.q_norm", "attn_q_norm"), ("self_attn.k_norm", "attn_k_norm")];

    /// <inheritdoc/>
    protected override bool NormalizesWeights => true;

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        WriteCommonSettings(config, metadata);
        RefuseBiases(config, "attention_bias");
        WriteExperts(config, metadata);
    }

    /// <inheritdoc/>
    protected override void ReadOwnSettings(GgufFile file, JsonObject config)
    {
        // Nothing beyond the mixtures.
    }
}
