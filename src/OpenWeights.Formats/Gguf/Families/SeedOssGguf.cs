using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Seed-OSS: biases on query, key and value projections.</summary>
internal sealed class SeedOssGguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.SeedOss;

    /// <inheritdoc/>
    public override string Architecture => "seed_oss";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules.Where(static m => m.HuggingFace is not ("post_attention_layernorm")),
        ("post_attention_layernorm", "post_attention_norm"),
    ];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        RefuseBiases(config, "attention_out_bias", "mlp_bias");
    }
}
