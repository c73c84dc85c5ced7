using System.Text.Json.Nodes;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Qwen 3 with experts.</summary>
public sealed class Qwen3MoeGguf : Qwen2MoeGguf
{
    /// <inheritdoc/>
    public override string ModelType => "qwen3_moe";

    /// <inheritdoc/>
    public override string ClassName => "Qwen3MoeForCausalLM";

    /// <inheritdoc/>
    public override string Architecture => "qwen3moe";

    /// <inheritdoc/>
    public override bool WantsHead => false;

    /// <inheritdoc/>
    public override GgufDefaults Defaults { get; } = new() { KeyValueHeads = 4, MaxPositions = 32768 };

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
        [.. base.Modules.Where(static m => !m.HuggingFace.Contains("shared_expert", StringComparison.Ordinal)), ("self_attn.q_norm", "attn_q_norm"), ("self_attn.k_norm", "attn_k_norm")];

    /// <inheritdoc/>
    protected override int UsualExperts => 128;

    /// <inheritdoc/>
    protected override bool NormalizesWeights => true;

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        WriteCommonSettings(config, metadata);
        RefuseBiases(config, "attention_bias");
        WriteExperts(config, metadata, perToken: 8, inner: 768);
    }

    /// <inheritdoc/>
    protected override void ReadOwnSettings(GgufFile file, JsonObject config)
    {
        // Nothing beyond the mixtures.
    }
}
